# The CPU addon for node-gyp, where CMake is missing (`npm run build:gyp`). Sources and flags: native/sources.json, through
# scripts/sources.mjs. Each instruction set is two static libraries of the same sources: most kernels, and those that must
# round exactly; of amx, those families that use its instructions.
{
  "target_defaults": {
    "default_configuration": "Release",
    "include_dirs": ["native"],
    "defines": ["NAPI_VERSION=8", "FOVEA_VERSION=\"<!(node -p \"require('./package.json').version\")\""],
    "cflags!": ["-fno-exceptions"],
    "cflags_cc!": ["-fno-exceptions", "-fno-rtti", "-std=gnu++17", "-std=gnu++1y"],
    "cflags_cc": ["-std=gnu++20", "-O3", "-fPIC", "<!@(node scripts/sources.mjs flags)"],
    "xcode_settings": {
      "CLANG_CXX_LANGUAGE_STANDARD": "gnu++20",
      "GCC_ENABLE_CPP_EXCEPTIONS": "YES",
      "GCC_ENABLE_CPP_RTTI": "YES",
      "GCC_OPTIMIZATION_LEVEL": "3",
      "OTHER_CPLUSPLUSFLAGS": ["<!@(node scripts/sources.mjs flags)"]
    },
    "conditions": [
      ["target_arch=='x64'", { "defines": ["FOVEA_HAVE_baseline", "FOVEA_HAVE_avx2", "FOVEA_HAVE_avx512", "FOVEA_HAVE_avx512bf16", "FOVEA_HAVE_amx"] }],
      ["target_arch=='arm64'", { "defines": ["FOVEA_HAVE_neon", "FOVEA_HAVE_neonbf16"] }]
    ]
  },
  "targets": [
    {
      "target_name": "fovea",
      "sources": ["<!@(node scripts/sources.mjs files once)", "<!@(node scripts/sources.mjs files binding)"],
      "include_dirs": [
        "<!(node -p \"require('node-api-headers').include_dir\")",
        "<!(node -p \"require('node-addon-api').include_dir\")"
      ],
      "conditions": [
        ["OS=='linux'", { "libraries": ["-lpthread", "-ldl"] }],
        ["target_arch=='x64'", {
          "dependencies": [
            "kernels_baseline", "exact_baseline",
            "kernels_avx2", "exact_avx2",
            "kernels_avx512", "exact_avx512",
            "kernels_avx512bf16", "exact_avx512bf16",
            "kernels_amx", "exact_amx"
          ]
        }],
        ["target_arch=='arm64'", {
          "dependencies": [
            "kernels_neon", "exact_neon",
            "kernels_neonbf16", "exact_neonbf16"
          ]
        }]
      ]
    }
  ],
  "conditions": [
    ["target_arch=='x64'", {
      "targets": [
        { "target_name": "kernels_baseline", "variables": { "isa": "baseline", "group": "perIsa" }, "includes": ["native/kernels.gypi"] },
        { "target_name": "exact_baseline", "variables": { "isa": "baseline", "group": "exact" }, "includes": ["native/kernels.gypi"] },
        { "target_name": "kernels_avx2", "variables": { "isa": "avx2", "group": "perIsa" }, "includes": ["native/kernels.gypi"] },
        { "target_name": "exact_avx2", "variables": { "isa": "avx2", "group": "exact" }, "includes": ["native/kernels.gypi"] },
        { "target_name": "kernels_avx512", "variables": { "isa": "avx512", "group": "perIsa" }, "includes": ["native/kernels.gypi"] },
        { "target_name": "exact_avx512", "variables": { "isa": "avx512", "group": "exact" }, "includes": ["native/kernels.gypi"] },
        { "target_name": "kernels_avx512bf16", "variables": { "isa": "avx512bf16", "group": "perIsa" }, "includes": ["native/kernels.gypi"] },
        { "target_name": "exact_avx512bf16", "variables": { "isa": "avx512bf16", "group": "exact" }, "includes": ["native/kernels.gypi"] },
        { "target_name": "kernels_amx", "variables": { "isa": "amx", "group": "perIsa" }, "includes": ["native/kernels.gypi"] },
        { "target_name": "exact_amx", "variables": { "isa": "amx", "group": "exact" }, "includes": ["native/kernels.gypi"] }
      ]
    }],
    ["target_arch=='arm64'", {
      "targets": [
        { "target_name": "kernels_neon", "variables": { "isa": "neon", "group": "perIsa" }, "includes": ["native/kernels.gypi"] },
        { "target_name": "exact_neon", "variables": { "isa": "neon", "group": "exact" }, "includes": ["native/kernels.gypi"] },
        { "target_name": "kernels_neonbf16", "variables": { "isa": "neonbf16", "group": "perIsa" }, "includes": ["native/kernels.gypi"] },
        { "target_name": "exact_neonbf16", "variables": { "isa": "neonbf16", "group": "exact" }, "includes": ["native/kernels.gypi"] }
      ]
    }]
  ]
}
