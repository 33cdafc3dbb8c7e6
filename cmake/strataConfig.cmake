# find_package(strata): the target strata::strata, with what it is linked with.
include(${CMAKE_CURRENT_LIST_DIR}/StrataDependencies.cmake)
include(${CMAKE_CURRENT_LIST_DIR}/strataTargets.cmake)
