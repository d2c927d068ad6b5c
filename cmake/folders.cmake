# One static library per folder of src/, linked as the floors of docs/architecture.md allow.
# File suffixes choose instruction sets: x_avx2.cpp, x_avx512.cpp, x_amx.cpp.
set(INGOT_FLAGS_AVX2 -mavx2 -mfma -mbmi -mbmi2 -mf16c -maes -mpclmul)
# g++ 12 warns of its own intrinsics headers: -Wno-maybe-uninitialized.
set(INGOT_FLAGS_AVX512 -Wno-maybe-uninitialized -Wno-uninitialized -march=x86-64-v4 -maes -mpclmul -mavx512vnni -mavx512bf16)
set(INGOT_FLAGS_AMX ${INGOT_FLAGS_AVX512} -mamx-tile -mamx-bf16 -mamx-int8)

function(ingot_folder name)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/${name}/*.cpp)
  if(NOT sources)
    set(sources ${PROJECT_SOURCE_DIR}/cmake/empty.cpp)
  endif()
  add_library(ingot_${name} STATIC ${sources})
  target_link_libraries(ingot_${name} PUBLIC ingot_flags)
  foreach(needed ${ARGN})
    target_link_libraries(ingot_${name} PUBLIC ingot_${needed})
  endforeach()
  foreach(source ${sources})
    if(source MATCHES "_avx2\\.cpp$")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${INGOT_FLAGS_AVX2};-O3;-ffp-contract=fast")
    elseif(source MATCHES "_avx512\\.cpp$")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${INGOT_FLAGS_AVX512};-O3;-ffp-contract=fast")
    elseif(source MATCHES "_amx\\.cpp$")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${INGOT_FLAGS_AMX};-O3;-ffp-contract=fast")
    endif()
  endforeach()
endfunction()

# The files that tell whether there is a CUDA target.
if(NOT INGOT_CUDA)
  foreach(source device/target.cpp device/cuda/driver_api.cpp tactics/tactic_list.cpp)
    set_source_files_properties(${PROJECT_SOURCE_DIR}/src/${source} PROPERTIES COMPILE_DEFINITIONS INGOT_WITHOUT_CUDA)
  endforeach()
endif()

# floor 0 … 2
ingot_folder(base)
target_include_directories(ingot_base PRIVATE ${INGOT_SPDLOG_INCLUDE} ${INGOT_XXHASH_INCLUDE})
target_link_libraries(ingot_base PRIVATE nlohmann_json::nlohmann_json)
ingot_folder(tensor base)
ingot_folder(text base)
target_link_libraries(ingot_text PRIVATE ${INGOT_LIB_pcre2_8} ${INGOT_LIB_utf8proc})
ingot_folder(ops base tensor)
ingot_folder(plan base tensor)
ingot_folder(device base tensor)
target_link_libraries(ingot_device PRIVATE ${CMAKE_DL_LIBS})
ingot_folder(checkpoint base tensor)
# floor 3
ingot_folder(kernels base tensor ops plan device)
target_include_directories(ingot_kernels PRIVATE ${INGOT_HIGHWAY_INCLUDE})
ingot_folder(ir base tensor ops)
# floor 4
ingot_folder(weights base tensor ops plan device kernels checkpoint)
ingot_folder(models base tensor ops ir checkpoint)
ingot_folder(passes base tensor ops ir)
ingot_folder(tactics base tensor ops plan device kernels)
# The device code of tactics/cuda is part of the binary, as text.
file(GLOB_RECURSE device_code CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/tactics/cuda/*.cuh)
set(embedded ${PROJECT_BINARY_DIR}/device_code_files.cpp)
add_custom_command(
  OUTPUT ${embedded}
  COMMAND ${CMAKE_COMMAND} -DROOT=${PROJECT_SOURCE_DIR}/src/tactics/cuda -DOUTPUT=${embedded}
          -P ${PROJECT_SOURCE_DIR}/cmake/embed_device_code.cmake
  DEPENDS ${device_code} ${PROJECT_SOURCE_DIR}/cmake/embed_device_code.cmake
  COMMENT "Embedding device code"
  VERBATIM)
target_sources(ingot_tactics PRIVATE ${embedded})
# floor 5
ingot_folder(runtime base tensor plan device kernels weights)
ingot_folder(tune base tensor ops plan device kernels tactics)
# floor 6
ingot_folder(generate base tensor text device plan runtime)
ingot_folder(build text ir models passes tactics tune plan device weights checkpoint)
# floor 7
ingot_folder(inspect build runtime generate)
# floor 8: the public classes, and the binary
ingot_folder(api inspect)
file(GLOB tool_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tools/ingot/*.cpp)
add_executable(ingot ${tool_sources})
target_include_directories(ingot PRIVATE ${INGOT_CLI11_INCLUDE})
target_link_libraries(ingot PRIVATE ingot_api -static-libstdc++ -static-libgcc)
set_target_properties(ingot PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR})
