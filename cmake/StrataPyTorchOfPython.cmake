# The PyTorch of the Python that a wheel is built for. pip hides installed packages from builds, so that their folder is
# looked into.
find_package(Python REQUIRED COMPONENTS Interpreter)
execute_process(COMMAND ${Python_EXECUTABLE} -c
"import importlib.util, site, sysconfig
site.addsitedir(sysconfig.get_path('purelib'))
found = importlib.util.find_spec('torch')
print(list(found.submodule_search_locations)[0] if found else '')"
  OUTPUT_VARIABLE STRATA_PYTORCH OUTPUT_STRIP_TRAILING_WHITESPACE)
if(NOT STRATA_PYTORCH)
  message(FATAL_ERROR "strata: ${Python_EXECUTABLE} has no PyTorch, whose LibTorch strata computes with; install it first: "
                      "pip install torch")
endif()
