# Reads native/sources.json, the one list of sources and flags that this build and binding.gyp share.

file(READ ${PROJECT_SOURCE_DIR}/native/sources.json FOVEA_SOURCES_JSON)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/native/sources.json)

# The strings of the JSON array at the given path, as a list in `out`.
function(fovea_json_list out)
  string(JSON length LENGTH "${FOVEA_SOURCES_JSON}" ${ARGN})
  set(items)
  if(length GREATER 0)
    math(EXPR last "${length} - 1")
    foreach(index RANGE ${last})
      string(JSON item GET "${FOVEA_SOURCES_JSON}" ${ARGN} ${index})
      list(APPEND items ${item})
    endforeach()
  endif()
  set(${out} ${items} PARENT_SCOPE)
endfunction()

# The files that the patterns of one group (once, binding, perIsa; onlyIn amx) match.
function(fovea_sources out)
  fovea_json_list(patterns ${ARGN})
  list(TRANSFORM patterns PREPEND ${PROJECT_SOURCE_DIR}/native/)
  file(GLOB files CONFIGURE_DEPENDS ${patterns})
  set(${out} ${files} PARENT_SCOPE)
endfunction()

# The names of the instruction sets of an architecture (x64, arm64), in the order of the file.
function(fovea_isas out arch)
  string(JSON count LENGTH "${FOVEA_SOURCES_JSON}" isas ${arch})
  math(EXPR last "${count} - 1")
  set(names)
  foreach(index RANGE ${last})
    string(JSON name MEMBER "${FOVEA_SOURCES_JSON}" isas ${arch} ${index})
    list(APPEND names ${name})
  endforeach()
  set(${out} ${names} PARENT_SCOPE)
endfunction()

# The kernel sources of one instruction set: all of `perIsa`, or what `onlyIn` names of it.
function(fovea_isa_sources out name)
  string(JSON only ERROR_VARIABLE missing GET "${FOVEA_SOURCES_JSON}" onlyIn ${name})
  if(missing)
    fovea_sources(files perIsa)
  else()
    fovea_sources(files onlyIn ${name})
  endif()
  set(${out} ${files} PARENT_SCOPE)
endfunction()
