# A tactic source's version is the hash of what its tactics run: tactics/cpu/x.cpp is compiled with INGOT_SOURCE_HASH, made
# of itself, of kernels/cpu/x* and of the loops that all kernels share; op_source and expert_mlp, which use kernels of other
# names, of all kernels; tactics/library/x_op.cpp of kernels/cuda/x*. Timings of older code are then not trusted.
file(GLOB tactic_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/tactics/cpu/*.cpp ${PROJECT_SOURCE_DIR}/src/tactics/library/*.cpp)
foreach(source ${tactic_sources})
  get_filename_component(name ${source} NAME_WE)
  file(GLOB parts CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/kernels/cpu/${name}* ${PROJECT_SOURCE_DIR}/src/kernels/cpu/pack*
       ${PROJECT_SOURCE_DIR}/src/kernels/cpu/vector_*)
  if(name MATCHES "^(op_source|expert_mlp)$")
    file(GLOB parts CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/kernels/cpu/*)
  elseif(source MATCHES "/library/")
    string(REGEX REPLACE "_.*" "" library ${name})
    file(GLOB parts CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/kernels/cuda/${library}*)
  endif()
  set(hashes "${INGOT_FLAGS_AVX2}${INGOT_FLAGS_AVX512}${INGOT_FLAGS_AMX}${CMAKE_CXX_COMPILER_VERSION}")
  foreach(part ${source} ${parts})
    file(SHA256 ${part} hash)
    string(APPEND hashes ${hash})
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${part})
  endforeach()
  string(SHA256 hash "${hashes}")
  string(SUBSTRING ${hash} 0 8 hash)
  set_source_files_properties(${source} PROPERTIES COMPILE_DEFINITIONS INGOT_SOURCE_HASH="${hash}")
endforeach()
