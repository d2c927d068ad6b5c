// A small language model as a hand-made plan: two attention layers, one with a window, over portable kernels; and what
// it means, in plain doubles.
#pragma once

#include <unistd.h>

#include <cmath>
#include <cstring>
#include <random>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/matmul.h"
#include "plan/engine_file.h"
#include "runtime/loaded_engine.h"

namespace ingot {

struct TinyModel {
  static constexpr int64_t kVocab = 32, kHeads = 2, kHeadSize = 8, kSize = kHeads * kHeadSize, kPositions = 128;
  static constexpr int64_t kPageSize = 4, kWindow = 6, kMaxTokens = 48, kMaxSequences = 8, kMaxOutputs = 16;
  static constexpr float kScale = 0.5f;

  std::vector<float> table, positions, head;

  TinyModel() {
    std::mt19937 random(7);
    auto fill = [&](std::vector<float>& values, int64_t count) {
      std::normal_distribution<float> normal;
      for (int64_t i = 0; i < count; ++i) values.push_back(normal(random));
    };
    fill(table, kVocab * kSize);
    fill(positions, kPositions * kSize);
    fill(head, kVocab * kSize);
  }

  Plan plan() const {
    Plan plan;
    auto add_input = [&](const char* name, const char* type) { plan.inputs.push_back({name, parse_type(type)}); };
    add_input("ids", "i32[tokens]");
    add_input("positions", "i32[tokens]");
    add_input("query_starts", "i32[sequences+1]");
    add_input("context_lengths", "i32[sequences]");
    add_input("output_rows", "i32[outputs]");
    for (std::string group : {"full", "sliding"}) {
      plan.groups.push_back({group, kPageSize, group == "full" ? 0 : kWindow});
      plan.inputs.push_back({"slots." + group, parse_type("i32[tokens]")});
      plan.inputs.push_back({"page_starts." + group, parse_type("i32[sequences+1]")});
      plan.inputs.push_back({"page_list." + group, parse_type("i32[pages." + group + "]")});
      plan.inputs.push_back({"context_starts." + group, parse_type("i32[sequences]")});
      for (std::string state : {".k", ".v"})
        plan.states.push_back({group + state, parse_type("f32[pool_pages." + group + ", 2, 4, 8]"), group});
    }
    plan.outputs = {{"logits", parse_type("f32[outputs, 32]")}};
    auto add_weight = [&](const char* name, int64_t rows) {
      uint64_t offset = plan.weights.empty() ? 0 : plan.weights.back().offset + plan.weights.back().bytes;
      plan.weights.push_back(
          {name, TensorType{DType::kF32, {rows, kSize}, ""}, name, offset, static_cast<uint64_t>(rows * kSize * 4)});
    };
    add_weight("table", kVocab);
    add_weight("positions", kPositions);
    add_weight("head", kVocab);
    plan.programs = {program(plan, 1, 4), program(plan, 5, kMaxTokens)};
    return plan;
  }

  // Writes the engine and loads it. The file is gone afterwards; the mapping stays.
  std::shared_ptr<const LoadedEngine> engine() const { return engine(plan()); }
  std::shared_ptr<const LoadedEngine> engine(const Plan& plan) const {
    Path path = std::filesystem::temp_directory_path() / ("ingot_tiny_" + std::to_string(getpid()) + ".engine");
    write(path, plan);
    auto engine = LoadedEngine::load(path);
    std::filesystem::remove(path);
    return engine;
  }
  void write(const Path& path, const Plan& plan) const {
    EngineWriter writer(path);
    for (const std::vector<float>* weight : {&table, &positions, &head})
      writer.write_weights(std::as_bytes(std::span(*weight)));
    writer.finish(plan);
  }

  // The logits of every position.
  std::vector<std::vector<double>> logits(const std::vector<int32_t>& ids) const {
    using Rows = std::vector<std::vector<double>>;
    Rows x(ids.size(), std::vector<double>(kSize));
    for (size_t i = 0; i < ids.size(); ++i)
      for (size_t c = 0; c < kSize; ++c)
        x[i][c] = static_cast<double>(table[static_cast<size_t>(ids[i]) * kSize + c] + positions[i * kSize + c]);
    for (int64_t window : {int64_t{0}, kWindow}) {
      Rows y = x;
      for (size_t i = 0; i < x.size(); ++i)
        for (size_t h = 0; h < kHeads; ++h) attend(x, i, h * kHeadSize, window, y[i]);
      x = y;
    }
    Rows result(ids.size(), std::vector<double>(kVocab));
    for (size_t i = 0; i < x.size(); ++i)
      for (size_t v = 0; v < kVocab; ++v)
        for (size_t c = 0; c < kSize; ++c) result[i][v] += x[i][c] * static_cast<double>(head[v * kSize + c]);
    return result;
  }

  // The greedy continuation.
  std::vector<int32_t> continuation(std::vector<int32_t> ids, size_t count) const {
    std::vector<int32_t> answer;
    while (answer.size() < count) {
      auto last = logits(ids).back();
      answer.push_back(static_cast<int32_t>(std::max_element(last.begin(), last.end()) - last.begin()));
      ids.push_back(answer.back());
    }
    return answer;
  }

 private:
  static void attend(const std::vector<std::vector<double>>& x, size_t i, size_t column, int64_t window,
                     std::vector<double>& y) {
    size_t first = window > 0 && static_cast<int64_t>(i) >= window ? i + 1 - static_cast<size_t>(window) : 0;
    std::vector<double> scores;
    double greatest = -1e300, sum = 0;
    for (size_t j = first; j <= i; ++j) {
      double score = 0;
      for (size_t c = column; c < column + kHeadSize; ++c) score += x[i][c] * x[j][c];
      scores.push_back(score * static_cast<double>(kScale));
      greatest = std::max(greatest, scores.back());
    }
    for (double& score : scores) sum += score = std::exp(score - greatest);
    for (size_t j = first; j <= i; ++j)
      for (size_t c = column; c < column + kHeadSize; ++c) y[c] += scores[j - first] / sum * x[j][c];
  }

  Program program(const Plan& plan, int64_t least, int64_t most) const {
    Program program;
    program.target = "cpu:portable";
    int64_t pages = kMaxSequences * (kPositions / kPageSize + 1);
    program.dims = {{"tokens", least, most, most},
                    {"sequences", 1, 1, kMaxSequences},
                    {"outputs", 0, 1, std::min(most, kMaxOutputs)},
                    {"pages.full", 1, 1, pages},
                    {"pages.sliding", 1, 1, pages}};
    auto arena = [&](const char* type, int64_t rows) {
      BufferRef ref{BufferKind::kArena, 0, program.arena_bytes, parse_type(type)};
      program.arena_bytes += static_cast<uint64_t>(rows * kSize * 4 + 63) / 64 * 64;
      return ref;
    };
    auto input = [&](std::string_view name) {
      for (size_t i = 0; i < plan.inputs.size(); ++i)
        if (plan.inputs[i].name == name)
          return BufferRef{BufferKind::kInput, static_cast<int64_t>(i), 0, plan.inputs[i].type};
      throw std::logic_error("no such input");
    };
    auto weight = [&](int64_t i) {
      return BufferRef{BufferKind::kWeight, i, 0, plan.weights[static_cast<size_t>(i)].type};
    };
    auto state = [&](int64_t i) {
      return BufferRef{BufferKind::kState, i, 0, plan.states[static_cast<size_t>(i)].type};
    };
    auto step = [&](const char* kernel, std::string parameters, std::vector<BufferRef> buffers, int64_t scratch = 0) {
      Step& added = program.steps.emplace_back();
      added.label = std::string(kernel) + " " + std::to_string(program.steps.size());
      added.kernel = kernel;
      added.parameters = std::move(parameters);
      added.buffers = std::move(buffers);
      added.scratch_offset = program.arena_bytes;
      added.scratch_bytes = static_cast<uint64_t>(scratch + 63) / 64 * 64;
      program.arena_bytes += added.scratch_bytes;
    };
    auto rows = [&] { return arena("f32[tokens, 16]", most); };

    BufferRef embedded = rows(), placed = rows(), x = rows();
    step("cpu.embedding_portable", "", {input("ids"), weight(0), embedded});
    step("cpu.embedding_portable", "", {input("positions"), weight(1), placed});
    step("cpu.add_portable", "", {embedded, placed, x});
    for (int64_t layer : {0, 1}) {
      std::string group = layer == 0 ? "full" : "sliding";
      BufferRef k = state(2 * layer), v = state(2 * layer + 1), attended = rows(), sum = rows();
      step("cpu.kv_write_portable", "", {k, x, input("slots." + group), k});
      step("cpu.kv_write_portable", "", {v, x, input("slots." + group), v});
      AttentionParameters p{.heads = kHeads, .scale = kScale, .window = layer == 0 ? 0 : kWindow, .threads = 2};
      step("cpu.attention_portable", print_fields(p),
           {x, k, v, input("query_starts"), input("context_lengths"), input("page_starts." + group),
            input("page_list." + group), input("context_starts." + group), attended},
           attention_scratch_bytes(p, CpuLevel::kPortable, kHeadSize, kHeadSize, kMaxSequences));
      step("cpu.add_portable", "", {x, attended, sum});
      x = sum;
    }
    BufferRef picked = arena("f32[outputs, 16]", kMaxOutputs);
    step("cpu.gather_rows", "", {x, input("output_rows"), picked});
    step("cpu.matmul_portable", "", {picked, weight(2), BufferRef{BufferKind::kOutput, 0, 0, plan.outputs[0].type}},
         matmul_scratch_bytes(MatmulParameters{}, kMaxOutputs, kSize, kSize));
    return program;
  }
};

}  // namespace ingot
