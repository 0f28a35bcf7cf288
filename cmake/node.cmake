# Sets FOVEA_NODE_INCLUDES. cmake-js passes its include folders in CMAKE_JS_INC; a plain `cmake` asks the npm packages
# that hold the headers, so that an IDE or the tests without Node can configure this project too.

if(CMAKE_JS_INC)
  set(FOVEA_NODE_INCLUDES ${CMAKE_JS_INC})
else()
  find_program(FOVEA_NODE NAMES node REQUIRED)
  execute_process(
    COMMAND ${FOVEA_NODE} -p "[require('node-api-headers').include_dir, require('node-addon-api').include_dir].join(';')"
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
    OUTPUT_VARIABLE FOVEA_NODE_INCLUDES OUTPUT_STRIP_TRAILING_WHITESPACE
    RESULT_VARIABLE status)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "fovea: the Node-API headers were not found; run `npm install` first")
  endif()
endif()
