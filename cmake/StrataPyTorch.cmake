# LibTorch out of an installed PyTorch: STRATA_PYTORCH is the package's folder, as
#   python3 -c 'import torch; print(torch.__path__[0])'
# prints it. PyTorch's own TorchConfig.cmake wants a CUDA toolkit where the package was built for CUDA; strata calls CUDA
# through LibTorch alone, so that headers and libraries suffice. Sets what find_package(Torch) sets.
file(READ ${STRATA_PYTORCH}/version.py strata_pytorch_version)
string(REGEX MATCH "__version__ = '([0-9.]+)" strata_pytorch_version "${strata_pytorch_version}")
set(strata_pytorch_version ${CMAKE_MATCH_1})
if(strata_pytorch_version VERSION_LESS 2.0)
  message(FATAL_ERROR "strata: the PyTorch in ${STRATA_PYTORCH} is ${strata_pytorch_version}, but 2.0 or newer is "
                      "expected; install a newer one with pip")
endif()
# The libraries beside LibTorch are linked with the system's C++ library, whose strings have had the new ABI since 2015.
file(STRINGS ${STRATA_PYTORCH}/share/cmake/Torch/TorchConfig.cmake strata_old_abi REGEX "_GLIBCXX_USE_CXX11_ABI=0")
if(strata_old_abi)
  message(FATAL_ERROR "strata: the PyTorch in ${STRATA_PYTORCH} (${strata_pytorch_version}) was built for the C++ ABI of "
                      "before 2015, but the ABI of today is expected; install PyTorch 2.6 or newer")
endif()

# Newer headers refuse C++17.
file(STRINGS ${STRATA_PYTORCH}/include/ATen/ATen.h strata_newer_standard REGEX "__cplusplus < 202002L")
if(strata_newer_standard AND NOT DEFINED CMAKE_CXX_STANDARD)
  set(CMAKE_CXX_STANDARD 20)
endif()

set(TORCH_INCLUDE_DIRS ${STRATA_PYTORCH}/include ${STRATA_PYTORCH}/include/torch/csrc/api/include)
set(TORCH_CXX_FLAGS "")
set(TORCH_LIBRARIES "")
foreach(library torch torch_cpu c10)
  list(APPEND TORCH_LIBRARIES ${STRATA_PYTORCH}/lib/lib${library}.so)
endforeach()
if(EXISTS ${STRATA_PYTORCH}/lib/libtorch_cuda.so)
  # No symbol of it is asked for by name: it announces the device when it is loaded.
  list(APPEND TORCH_LIBRARIES -Wl,--push-state,--no-as-needed ${STRATA_PYTORCH}/lib/libtorch_cuda.so -Wl,--pop-state)
endif()
# The libraries that these need are found by their own paths, when the program starts.
list(APPEND TORCH_LIBRARIES -Wl,--allow-shlib-undefined)
message(STATUS "strata: LibTorch ${strata_pytorch_version} of ${STRATA_PYTORCH}")
