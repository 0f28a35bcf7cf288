# What the kernel libraries of binding.gyp share. A target sets `isa` and `group` (perIsa or exact, see scripts/sources.mjs).
{
  "type": "static_library",
  "sources": ["<!@(node scripts/sources.mjs files <(group) <(isa))"],
  "defines": ["FOVEA_ISA=isa_<(isa)"],
  "cflags_cc": ["<!@(node scripts/sources.mjs flags <(target_arch) <(isa) <(group))"],
  "xcode_settings": { "OTHER_CPLUSPLUSFLAGS": ["<!@(node scripts/sources.mjs flags <(target_arch) <(isa) <(group))"] }
}
