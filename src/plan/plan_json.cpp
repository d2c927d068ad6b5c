#include "plan/plan_json.h"

#include <algorithm>
#include <initializer_list>
#include <map>

#include "base/error.h"

namespace ingot {

namespace {

// Types repeat in nearly every step, so they are stored once and referred to by their place.
class TypeTable {
 public:
  Json place(const TensorType& type) {
    auto [entry, added] = places_.try_emplace(print(type), static_cast<int64_t>(places_.size()));
    if (added) texts_.push(entry->first);
    return entry->second;
  }
  Json take() { return std::move(texts_); }

 private:
  std::map<std::string, int64_t> places_;
  Json texts_ = Json::array();
};

Json object(std::initializer_list<std::pair<std::string, Json>> members) { return Json(Json::Object(members)); }

template <class List, class F>
Json array_of(const List& list, F&& convert) {
  Json array = Json::array();
  for (const auto& element : list) array.push(convert(element));
  return array;
}

Json step_to_json(const Step& step, TypeTable& types) {
  auto buffer = [&](const BufferRef& ref) {
    return Json(Json::Array{Json(enum_name(ref.kind)), Json(ref.index), Json(ref.offset), types.place(ref.type)});
  };
  auto names = [](const std::vector<std::string>& list) { return value_to_json(list); };
  return object({{"label", step.label},
                 {"kernel", step.kernel},
                 {"parameters", step.parameters},
                 {"buffers", array_of(step.buffers, buffer)},
                 {"scratch_offset", step.scratch_offset},
                 {"scratch_bytes", step.scratch_bytes},
                 {"problem", step.problem},
                 {"tactic", step.tactic},
                 {"origins", array_of(step.origins, names)}});
}

Json program_to_json(const Program& program, TypeTable& types) {
  return object({{"entry", program.entry},
                 {"target", program.target},
                 {"dims", array_of(program.dims, [](const DimRange& range) { return value_to_json(range); })},
                 {"arena_bytes", program.arena_bytes},
                 {"steps", array_of(program.steps, [&](const Step& step) { return step_to_json(step, types); })}});
}

// An object whose members are exactly the ones that are read: done() reports any other.
class Members {
 public:
  explicit Members(const Json& json) : object_(json.as_object()) {}

  template <class F>
  auto read(std::string_view key, F&& convert) {
    // Nearly always the members stand in the order in which they are written.
    for (size_t i = 0; i < object_.size(); ++i) {
      const auto& [name, value] = object_[(used_ + i) % object_.size()];
      if (name != key) continue;
      ++used_;
      Scope scope(format("key \"{}\"", key));
      return convert(value);
    }
    fail(ErrorCode::kRuntime, "the key \"{}\" is missing", key);
  }
  const Json& get(std::string_view key) {
    return *read(key, [](const Json& value) { return &value; });
  }
  std::string string(std::string_view key) {
    return read(key, [](const Json& value) { return value.as_string(); });
  }
  uint64_t size(std::string_view key);
  template <class F>
  auto list(std::string_view key, F&& convert) {
    return read(key, [&](const Json& value) {
      const Json::Array& array = value.as_array();
      std::vector<decltype(convert(array.front()))> result;
      result.reserve(array.size());
      for (size_t i = 0; i < array.size(); ++i) {
        Scope scope(format("[{}]", i));
        result.push_back(convert(array[i]));
      }
      return result;
    });
  }
  void done() const {
    if (used_ == object_.size()) return;
    std::vector<std::string> names;
    for (const auto& [name, value] : object_) names.push_back(name);
    fail(ErrorCode::kRuntime, "there are {} members where {} are known: {}", object_.size(), used_, join(names));
  }

 private:
  const Json::Object& object_;
  size_t used_ = 0;
};

uint64_t to_size(const Json& json) {
  int64_t value = json.as_int();
  if (value < 0) fail(ErrorCode::kRuntime, "found {} where a size is needed", value);
  return static_cast<uint64_t>(value);
}

uint64_t Members::size(std::string_view key) { return read(key, to_size); }

class Reader {
 public:
  Plan read(const Json& json) {
    Members plan(json);
    types_ = plan.list("types", [](const Json& text) { return parse_type(text.as_string()); });
    Plan result;
    auto input = [&](const Json& member) { return read_input(member); };
    result.inputs = plan.list("inputs", input);
    result.outputs = plan.list("outputs", input);
    result.groups = plan.list("groups", read_fields<CacheGroup>);
    result.states = plan.list("states", [&](const Json& member) { return read_state(member); });
    result.weights = plan.list("weights", [&](const Json& member) { return read_weight(member); });
    result.modules = plan.list("modules", read_module);
    result.programs = plan.list("programs", [&](const Json& member) { return read_program(member); });
    result.avx512_bf16 = plan.get("avx512_bf16").as_bool();
    plan.done();
    return result;
  }

 private:
  // A struct with fields, all of them present.
  template <HasFields T>
  static T read_fields(const Json& json) {
    Members members(json);
    for_each_field<T>([&](auto f) { members.get(f.name); });
    members.done();
    T value;
    value_from_json(json, value);
    return value;
  }

  const TensorType& type(const Json& json) const {
    uint64_t place = to_size(json);
    if (place >= types_.size()) fail(ErrorCode::kRuntime, "type {} of {} types", place, types_.size());
    return types_[place];
  }

  TensorType read_type(Members& members) const {
    return members.read("type", [&](const Json& json) { return type(json); });
  }

  PlanInput read_input(const Json& json) const {
    Members members(json);
    PlanInput input{members.string("name"), read_type(members)};
    members.done();
    return input;
  }

  PlanState read_state(const Json& json) const {
    Members members(json);
    PlanState state{members.string("name"), read_type(members), members.string("group")};
    members.done();
    return state;
  }

  PlanWeight read_weight(const Json& json) const {
    Members members(json);
    PlanWeight weight{members.string("name"), read_type(members), members.string("recipe"), members.size("offset"),
                      members.size("bytes")};
    members.done();
    return weight;
  }

  static PlanModule read_module(const Json& json) {
    Members members(json);
    PlanModule module{members.string("name"), members.string("target"), members.size("offset"), members.size("bytes")};
    members.done();
    return module;
  }

  BufferRef read_buffer(const Json& json) const {
    const Json::Array& array = json.as_array();
    if (array.size() != 4) fail(ErrorCode::kRuntime, "a buffer has 4 members, not {}", array.size());
    return {parse_enum<BufferKind>(array[0].as_string()), array[1].as_int(), to_size(array[2]), type(array[3])};
  }

  Step read_step(const Json& json) const {
    Members members(json);
    Step step;
    step.label = members.string("label");
    Scope scope(step.label);
    step.kernel = members.string("kernel");
    step.parameters = members.string("parameters");
    step.buffers = members.list("buffers", [&](const Json& buffer) { return read_buffer(buffer); });
    step.scratch_offset = members.size("scratch_offset");
    step.scratch_bytes = members.size("scratch_bytes");
    step.problem = members.string("problem");
    step.tactic = members.string("tactic");
    step.origins = members.list("origins", [](const Json& names) {
      std::vector<std::string> list;
      value_from_json(names, list);
      return list;
    });
    members.done();
    return step;
  }

  Program read_program(const Json& json) const {
    Members members(json);
    Program program;
    program.entry = members.string("entry");
    program.target = members.string("target");
    program.dims = members.list("dims", read_fields<DimRange>);
    program.arena_bytes = members.size("arena_bytes");
    program.steps = members.list("steps", [&](const Json& step) { return read_step(step); });
    members.done();
    return program;
  }

  std::vector<TensorType> types_;
};

}  // namespace

Json plan_to_json(const Plan& plan) {
  TypeTable types;
  auto input = [&](const PlanInput& value) {
    return object({{"name", value.name}, {"type", types.place(value.type)}});
  };
  auto state = [&](const PlanState& value) {
    return object({{"name", value.name}, {"type", types.place(value.type)}, {"group", value.group}});
  };
  auto weight = [&](const PlanWeight& value) {
    return object({{"name", value.name},
                   {"type", types.place(value.type)},
                   {"recipe", value.recipe},
                   {"offset", value.offset},
                   {"bytes", value.bytes}});
  };
  auto module = [](const PlanModule& value) {
    return object({{"name", value.name}, {"target", value.target}, {"offset", value.offset}, {"bytes", value.bytes}});
  };
  auto group = [](const CacheGroup& value) { return value_to_json(value); };
  auto program = [&](const Program& value) { return program_to_json(value, types); };
  Json json = object({{"inputs", array_of(plan.inputs, input)},
                      {"outputs", array_of(plan.outputs, input)},
                      {"groups", array_of(plan.groups, group)},
                      {"states", array_of(plan.states, state)},
                      {"weights", array_of(plan.weights, weight)},
                      {"modules", array_of(plan.modules, module)},
                      {"programs", array_of(plan.programs, program)},
                      {"avx512_bf16", plan.avx512_bf16}});
  json.as_object().insert(json.as_object().begin(), {"types", types.take()});
  return json;
}

Plan plan_from_json(const Json& json) { return Reader().read(json); }

}  // namespace ingot
