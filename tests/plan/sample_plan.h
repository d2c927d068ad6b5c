// A small consistent plan for the tests of this folder.
#pragma once

#include "plan/plan.h"

namespace ingot {

inline TensorType type_of(std::string_view text) { return parse_type(text); }

inline Plan sample_plan() {
  Plan plan;
  plan.inputs = {{"ids", type_of("i32[tokens]")}, {"starts", type_of("i32[sequences+1]")}};
  plan.outputs = {{"logits", type_of("f32[outputs, 8]")}};
  plan.groups = {{.name = "full", .page_size = 4}, {.name = "sliding", .page_size = 4, .window = 6}};
  plan.states = {{"layers.0.k", type_of("bf16[pool_pages.full, 2, 4, 8]"), "full"},
                 {"layers.1.k", type_of("f32[pool_pages.sliding, 2, 4, 8]"), "sliding"}};
  plan.weights = {{"embed", type_of("f32[8, 8]"), "embed", 0, 256},
                  {"head \"quoted\" \u00e9", type_of("bf16[3, 8]@tiles_16x32"), "pack(head, tiles_16x32)", 320, 1024}};
  plan.modules = {{"3f09ab12cd45ef67", "sm_90a", 0, 70}, {"00112233445566aa", "sm_90a", 128, 9}};
  Step embed;
  embed.kernel = "cpu.embedding_portable";
  embed.parameters = "{dtype = f32}";
  embed.buffers = {{BufferKind::kInput, 0, 0, plan.inputs[0].type},
                   {BufferKind::kWeight, 0, 0, plan.weights[0].type},
                   {BufferKind::kArena, 0, 64, type_of("f32[tokens, 8]")}};
  embed.label = "embed";
  embed.problem = "embedding i32[16] f32[8, 8]";
  embed.tactic = "cpu.embedding_portable";
  embed.origins = {{}, {}, {"hidden", "x"}};
  Step pick;
  pick.kernel = "cpu.gather_rows";
  pick.buffers = {{BufferKind::kArena, 0, 64, type_of("f32[tokens, 8]")},
                  {BufferKind::kState, 1, 0, plan.states[1].type},
                  {BufferKind::kOutput, 0, 0, plan.outputs[0].type}};
  pick.scratch_offset = 1024;
  pick.scratch_bytes = 32;
  Program program;
  program.target = "cpu:portable";
  program.dims = {{"tokens", 1, 4, 16}, {"outputs", 0, 1, 2}, {"sequences", 1, 1, 2}};
  program.steps = {embed, pick};
  program.arena_bytes = 2048;
  plan.programs = {program, program};
  plan.programs[1].dims[0] = {"tokens", 17, 24, 30};
  plan.avx512_bf16 = true;
  return plan;
}

}  // namespace ingot
