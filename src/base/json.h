// JSON as a small value type. The parser (nlohmann's) lives in json.cpp alone.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace ingot {

// A JSON value. Objects keep the order of their keys. Integers are kept apart from other numbers.
class Json {
 public:
  using Array = std::vector<Json>;
  using Object = std::vector<std::pair<std::string, Json>>;

  Json() = default;
  Json(std::nullptr_t) {}
  Json(bool value) : value_(value) {}
  Json(int value) : value_(int64_t{value}) {}
  Json(unsigned value) : value_(int64_t{value}) {}
  Json(int64_t value) : value_(value) {}
  Json(uint64_t value) : value_(static_cast<int64_t>(value)) {}
  Json(double value) : value_(value) {}
  Json(const char* value) : value_(std::string(value)) {}
  Json(std::string_view value) : value_(std::string(value)) {}
  Json(std::string value) : value_(std::move(value)) {}
  Json(Array value) : value_(std::move(value)) {}
  Json(Object value) : value_(std::move(value)) {}

  static Json array() { return Json(Array{}); }
  static Json object() { return Json(Object{}); }

  bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
  bool is_bool() const { return std::holds_alternative<bool>(value_); }
  bool is_int() const { return std::holds_alternative<int64_t>(value_); }
  bool is_number() const { return is_int() || std::holds_alternative<double>(value_); }
  bool is_string() const { return std::holds_alternative<std::string>(value_); }
  bool is_array() const { return std::holds_alternative<Array>(value_); }
  bool is_object() const { return std::holds_alternative<Object>(value_); }

  // Each throws an Error that names the type found and the type needed. as_double accepts integers; as_int accepts
  // a number without fraction.
  bool as_bool() const;
  int64_t as_int() const;
  double as_double() const;
  const std::string& as_string() const;
  const Array& as_array() const;
  const Object& as_object() const;
  Array& as_array();
  Object& as_object();

  // The member `key` of an object, or nullptr. Null members count as absent for find_set.
  const Json* find(std::string_view key) const;
  const Json* find_set(std::string_view key) const;
  // The member `key`; throws an Error naming the key when it is absent.
  const Json& at(std::string_view key) const;
  // The member `key`, or `otherwise` when absent or null. The error of a wrong type names the key.
  bool get(std::string_view key, bool otherwise) const;
  int64_t get(std::string_view key, int64_t otherwise) const;
  int64_t get(std::string_view key, int otherwise) const { return get(key, int64_t{otherwise}); }
  double get(std::string_view key, double otherwise) const;
  std::string get(std::string_view key, const char* otherwise) const;
  std::string get(std::string_view key, const std::string& otherwise) const { return get(key, otherwise.c_str()); }

  void set(std::string key, Json value);  // object member; replaces
  void push(Json value);                  // array element

  // indent < 0: one line. Non-finite numbers become null.
  std::string dump(int indent = -1) const;
  bool operator==(const Json&) const = default;

 private:
  std::variant<std::monostate, bool, int64_t, double, std::string, Array, Object> value_;
};

// Throws an Error with the position of the first mistake. Depth is limited to 256; keys that stand twice are refused.
Json parse_json(std::string_view text);

}  // namespace ingot
