# cmake --install: the program, the library for find_package(strata), and the tokenizer's module beside the library.
if(NOT TARGET strata_library)
  return()
endif()
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(package ${CMAKE_INSTALL_LIBDIR}/cmake/strata)

install(TARGETS strata_library EXPORT strataTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
        INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/strata/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/strata
        FILES_MATCHING PATTERN *.h PATTERN cli EXCLUDE PATTERN sentencepiece_module EXCLUDE)
if(TARGET strata)
  set(strata_folder ${CMAKE_INSTALL_LIBEXECDIR}/strata)
  set_target_properties(strata strata_tensors PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON)
  set_target_properties(strata PROPERTIES INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")
  set_target_properties(strata_tensors PROPERTIES INSTALL_RPATH "$ORIGIN/../../${CMAKE_INSTALL_LIBDIR}")
  install(TARGETS strata RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  install(TARGETS strata_tensors RUNTIME DESTINATION ${strata_folder})
  install(FILES ${PROJECT_BINARY_DIR}/strata.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 OPTIONAL)
  install(FILES ${PROJECT_BINARY_DIR}/strata.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions
          RENAME strata OPTIONAL)
endif()
if(TARGET strata_sentencepiece_module)
  # Opened at run time, and found on the path of libraries of the program that is linked with the library.
  install(TARGETS strata_sentencepiece_module LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
  target_link_options(strata_library INTERFACE
                      $<INSTALL_INTERFACE:-Wl,-rpath,$<INSTALL_PREFIX>/${CMAKE_INSTALL_LIBDIR}>)
endif()

install(EXPORT strataTargets NAMESPACE strata:: DESTINATION ${package})
write_basic_package_version_file(strataConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_SOURCE_DIR}/cmake/strataConfig.cmake ${PROJECT_SOURCE_DIR}/cmake/StrataDependencies.cmake ${PROJECT_SOURCE_DIR}/cmake/StrataPyTorch.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/strataConfigVersion.cmake
        DESTINATION ${package})
