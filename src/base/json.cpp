#include "base/json.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "base/error.h"

namespace ingot {

namespace {

constexpr size_t kMaxDepth = 256;

const char* type_name(const Json& json) {
  if (json.is_null()) return "null";
  if (json.is_bool()) return "a boolean";
  if (json.is_number()) return "a number";
  if (json.is_string()) return "a string";
  return json.is_array() ? "an array" : "an object";
}

[[noreturn]] void wrong_type(const Json& json, const char* needed) {
  fail(ErrorCode::kRuntime, "found {} where {} is needed", type_name(json), needed);
}

// Builds the value from nlohmann's events, so that only one tree exists in memory.
class Reader : public nlohmann::json_sax<nlohmann::json> {
 public:
  Json result;

  bool null() override { return put(Json()); }
  bool boolean(bool value) override { return put(value); }
  bool number_integer(int64_t value) override { return put(value); }
  bool number_unsigned(uint64_t value) override {
    return value <= INT64_MAX ? put(static_cast<int64_t>(value)) : put(static_cast<double>(value));
  }
  bool number_float(double value, const std::string&) override { return put(value); }
  bool string(std::string& value) override { return put(Json(std::move(value))); }
  bool binary(nlohmann::json::binary_t&) override { return false; }
  bool start_object(size_t) override { return open(Json::object()); }
  bool start_array(size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(std::string& name) override {
    if (!seen_.back().insert(name).second) fail(ErrorCode::kRuntime, "the key \"{}\" stands twice in one object", name);
    keys_.back() = std::move(name);
    return true;
  }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    fail(ErrorCode::kRuntime, "not valid JSON at byte {}: {}", position, std::string(error.what()));
  }

 private:
  bool put(Json value) {
    if (open_.empty()) {
      result = std::move(value);
    } else if (open_.back().is_array()) {
      open_.back().as_array().push_back(std::move(value));
    } else {
      open_.back().as_object().emplace_back(std::move(keys_.back()), std::move(value));
    }
    return true;
  }
  bool open(Json value) {
    if (open_.size() == kMaxDepth) fail(ErrorCode::kRuntime, "JSON nested deeper than {} levels", kMaxDepth);
    open_.push_back(std::move(value));
    keys_.emplace_back();
    seen_.emplace_back();
    return true;
  }
  bool close() {
    Json value = std::move(open_.back());
    open_.pop_back();
    keys_.pop_back();
    seen_.pop_back();
    return put(std::move(value));
  }

  std::vector<Json> open_;
  std::vector<std::string> keys_;
  std::vector<std::unordered_set<std::string>> seen_;
};

nlohmann::ordered_json to_nlohmann(const Json& json) {
  if (json.is_bool()) return json.as_bool();
  if (json.is_int()) return json.as_int();
  if (json.is_number()) return json.as_double();
  if (json.is_string()) return json.as_string();
  if (json.is_array()) {
    auto array = nlohmann::ordered_json::array();
    for (const Json& element : json.as_array()) array.push_back(to_nlohmann(element));
    return array;
  }
  if (json.is_object()) {
    auto object = nlohmann::ordered_json::object();
    for (const auto& [key, member] : json.as_object()) object[key] = to_nlohmann(member);
    return object;
  }
  return nullptr;
}

template <class F>
auto named(std::string_view key, F&& read) {
  Scope scope(format("key \"{}\"", key));
  return read();
}

}  // namespace

bool Json::as_bool() const {
  if (auto* value = std::get_if<bool>(&value_)) return *value;
  wrong_type(*this, "a boolean");
}

int64_t Json::as_int() const {
  if (auto* value = std::get_if<int64_t>(&value_)) return *value;
  if (auto* value = std::get_if<double>(&value_)) {
    if (std::abs(*value) < 9e15 && *value == std::floor(*value)) return static_cast<int64_t>(*value);
  }
  wrong_type(*this, "an integer");
}

double Json::as_double() const {
  if (auto* value = std::get_if<double>(&value_)) return *value;
  if (auto* value = std::get_if<int64_t>(&value_)) return static_cast<double>(*value);
  wrong_type(*this, "a number");
}

const std::string& Json::as_string() const {
  if (auto* value = std::get_if<std::string>(&value_)) return *value;
  wrong_type(*this, "a string");
}

const Json::Array& Json::as_array() const {
  if (auto* value = std::get_if<Array>(&value_)) return *value;
  wrong_type(*this, "an array");
}

const Json::Object& Json::as_object() const {
  if (auto* value = std::get_if<Object>(&value_)) return *value;
  wrong_type(*this, "an object");
}

Json::Array& Json::as_array() { return const_cast<Array&>(std::as_const(*this).as_array()); }
Json::Object& Json::as_object() { return const_cast<Object&>(std::as_const(*this).as_object()); }

const Json* Json::find(std::string_view key) const {
  auto* object = std::get_if<Object>(&value_);
  if (!object) return nullptr;
  for (const auto& [name, value] : *object)
    if (name == key) return &value;
  return nullptr;
}

const Json* Json::find_set(std::string_view key) const {
  const Json* value = find(key);
  return value && !value->is_null() ? value : nullptr;
}

const Json& Json::at(std::string_view key) const {
  if (const Json* value = find(key)) return *value;
  if (!is_object()) wrong_type(*this, "an object");
  fail(ErrorCode::kRuntime, "the key \"{}\" is missing", key);
}

bool Json::get(std::string_view key, bool otherwise) const {
  const Json* value = find_set(key);
  return value ? named(key, [&] { return value->as_bool(); }) : otherwise;
}
int64_t Json::get(std::string_view key, int64_t otherwise) const {
  const Json* value = find_set(key);
  return value ? named(key, [&] { return value->as_int(); }) : otherwise;
}
double Json::get(std::string_view key, double otherwise) const {
  const Json* value = find_set(key);
  return value ? named(key, [&] { return value->as_double(); }) : otherwise;
}
std::string Json::get(std::string_view key, const char* otherwise) const {
  const Json* value = find_set(key);
  return value ? named(key, [&] { return value->as_string(); }) : std::string(otherwise);
}

void Json::set(std::string key, Json value) {
  if (is_null()) value_ = Object{};
  for (auto& [name, member] : as_object())
    if (name == key) {
      member = std::move(value);
      return;
    }
  as_object().emplace_back(std::move(key), std::move(value));
}

void Json::push(Json value) {
  if (is_null()) value_ = Array{};
  as_array().push_back(std::move(value));
}

std::string Json::dump(int indent) const {
  return to_nlohmann(*this).dump(indent, ' ', false, nlohmann::json::error_handler_t::replace);
}

Json parse_json(std::string_view text) {
  Reader reader;
  nlohmann::json::sax_parse(text.begin(), text.end(), &reader);
  return std::move(reader.result);
}

}  // namespace ingot
