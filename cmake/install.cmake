# The binary, and the library as one archive behind find_package(ingot): ingot::ingot.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(sdk_objects)
foreach(folder base tensor text ops plan device checkpoint kernels ir weights models passes tactics runtime tune generate
        build inspect api)
  list(APPEND sdk_objects $<TARGET_OBJECTS:ingot_${folder}>)
endforeach()
add_library(ingot_sdk STATIC ${sdk_objects})
set_target_properties(ingot_sdk PROPERTIES OUTPUT_NAME ingot EXPORT_NAME ingot LINKER_LANGUAGE CXX)
target_include_directories(ingot_sdk INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_compile_features(ingot_sdk INTERFACE cxx_std_20)
target_link_libraries(ingot_sdk INTERFACE ${INGOT_LIB_pcre2_8} ${INGOT_LIB_utf8proc} Threads::Threads ${CMAKE_DL_LIBS})

install(TARGETS ingot RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS ingot_sdk EXPORT ingot ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/ingot DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/ingot)
install(EXPORT ingot NAMESPACE ingot:: FILE ingotTargets.cmake DESTINATION ${package_dir})
file(WRITE ${PROJECT_BINARY_DIR}/ingotConfig.cmake
     "include(CMakeFindDependencyMacro)\nfind_dependency(Threads)\n"
     "include(\${CMAKE_CURRENT_LIST_DIR}/ingotTargets.cmake)\n")
write_basic_package_version_file(${PROJECT_BINARY_DIR}/ingotConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/ingotConfig.cmake ${PROJECT_BINARY_DIR}/ingotConfigVersion.cmake
        DESTINATION ${package_dir})
