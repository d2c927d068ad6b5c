// A struct lists its members once, in `static constexpr auto fields()`; printing, parsing, hashing, comparing and JSON
// read that list. The text form is `{epsilon = 1e-05, heads = 32, function = silu}`; members equal to the default of
// the struct are left out, so an all-default struct prints as nothing.
//
//   struct RmsNorm {
//     float epsilon = 1e-6f;
//     static constexpr auto fields() { return std::tuple{field("epsilon", &RmsNorm::epsilon)}; }
//   };
//
// Member types: bool, int, int64_t, float, double, std::string, std::vector of these, and enums that have an
// `enum_names(E)` found by argument-dependent lookup, returning a span of names in the order of the values.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "base/lexer.h"

namespace ingot {

template <class T, class M>
struct Field {
  std::string_view name;
  M T::*member;
};

template <class T, class M>
constexpr Field<T, M> field(std::string_view name, M T::*member) {
  return {name, member};
}

template <class T>
concept HasFields = requires { T::fields(); };

// f(field) for every field of T.
template <HasFields T, class F>
void for_each_field(F&& f) {
  std::apply([&](auto... each) { (f(each), ...); }, T::fields());
}

template <HasFields T>
bool equal_fields(const T& a, const T& b) {
  bool equal = true;
  for_each_field<T>([&](auto f) { equal = equal && a.*f.member == b.*f.member; });
  return equal;
}

// --- values -------------------------------------------------------------------------------------------------------

template <class E>
  requires std::is_enum_v<E>
std::string_view enum_name(E value) {
  return enum_names(E{})[static_cast<size_t>(value)];
}

// The enum value called `name`; throws an Error that lists the known names.
template <class E>
  requires std::is_enum_v<E>
E parse_enum(std::string_view name) {
  auto names = enum_names(E{});
  for (size_t i = 0; i < names.size(); ++i)
    if (names[i] == name) return static_cast<E>(i);
  fail(ErrorCode::kUsage, "\"{}\" is none of {}", name, join(std::vector<std::string>(names.begin(), names.end())));
}

std::string print_string_value(const std::string& value);  // bare when it is a plain word, else quoted

template <class T>
std::string print_value(const T& value) {
  if constexpr (std::is_same_v<T, bool>) {
    return value ? "true" : "false";
  } else if constexpr (std::is_integral_v<T>) {
    return std::to_string(value);
  } else if constexpr (std::is_floating_point_v<T>) {
    return print_float(value);
  } else if constexpr (std::is_enum_v<T>) {
    return std::string(enum_name(value));
  } else if constexpr (std::is_same_v<T, std::string>) {
    return print_string_value(value);
  } else {
    std::string text = "[";
    for (size_t i = 0; i < value.size(); ++i) text += (i ? ", " : "") + print_value(value[i]);
    return text + "]";
  }
}

template <class T>
void parse_value(Lexer& lexer, T& value) {
  if constexpr (std::is_same_v<T, bool>) {
    std::string word = lexer.word("true or false");
    if (word != "true" && word != "false") lexer.fail("true or false");
    value = word == "true";
  } else if constexpr (std::is_integral_v<T>) {
    int64_t number = lexer.integer();
    if (!std::in_range<T>(number)) lexer.fail("a smaller integer");
    value = static_cast<T>(number);
  } else if constexpr (std::is_floating_point_v<T>) {
    value = static_cast<T>(lexer.number());
  } else if constexpr (std::is_enum_v<T>) {
    value = parse_enum<T>(lexer.word("a name"));
  } else if constexpr (std::is_same_v<T, std::string>) {
    value = lexer.string();
  } else {
    value.clear();
    lexer.expect("[");
    while (!lexer.accept("]")) {
      if (!value.empty()) lexer.expect(",");
      value.emplace_back();
      parse_value(lexer, value.back());
    }
  }
}

// --- text ---------------------------------------------------------------------------------------------------------

template <HasFields T>
std::string print_fields(const T& value) {
  const T defaults{};
  std::string text;
  for_each_field<T>([&](auto f) {
    if (value.*f.member == defaults.*f.member) return;
    text += (text.empty() ? "{" : ", ") + std::string(f.name) + " = " + print_value(value.*f.member);
  });
  return text.empty() ? text : text + "}";
}

// Parses `{name = value, …}` or nothing. Unknown and repeated names are errors that list the known ones.
template <HasFields T>
T parse_fields(Lexer& lexer) {
  T value{};
  if (!lexer.accept("{")) return value;
  std::vector<std::string> seen;
  while (!lexer.accept("}")) {
    if (!seen.empty()) lexer.expect(",");
    std::string name = lexer.word("a field name");
    if (std::find(seen.begin(), seen.end(), name) != seen.end()) lexer.fail("each field once, not again " + name);
    seen.push_back(name);
    lexer.expect("=");
    bool known = false;
    std::vector<std::string> names;
    for_each_field<T>([&](auto f) {
      names.emplace_back(f.name);
      if (f.name != name) return;
      known = true;
      parse_value(lexer, value.*f.member);
    });
    if (!known) lexer.fail("one of the fields " + join(names) + ", not " + name);
  }
  return value;
}

// --- JSON ---------------------------------------------------------------------------------------------------------

template <class T>
Json value_to_json(const T& value) {
  if constexpr (HasFields<T>) {
    Json object = Json::object();
    for_each_field<T>([&](auto f) { object.set(std::string(f.name), value_to_json(value.*f.member)); });
    return object;
  } else if constexpr (std::is_enum_v<T>) {
    return Json(enum_name(value));
  } else if constexpr (std::is_same_v<T, bool> || std::is_same_v<T, std::string>) {
    return Json(value);
  } else if constexpr (std::is_integral_v<T>) {
    return Json(static_cast<int64_t>(value));
  } else if constexpr (std::is_same_v<T, float>) {
    double exact = 0;  // the shortest text of a float, not of its widened double
    std::string text = print_float(value);
    std::from_chars(text.data(), text.data() + text.size(), exact);
    return Json(exact);
  } else if constexpr (std::is_floating_point_v<T>) {
    return Json(static_cast<double>(value));
  } else {
    Json array = Json::array();
    for (const auto& element : value) array.push(value_to_json(element));
    return array;
  }
}

template <class T>
void value_from_json(const Json& json, T& value) {
  if constexpr (HasFields<T>) {
    for_each_field<T>([&](auto f) {
      Scope scope(format("key \"{}\"", f.name));
      if (const Json* member = json.find(f.name)) value_from_json(*member, value.*f.member);
    });
  } else if constexpr (std::is_enum_v<T>) {
    value = parse_enum<T>(json.as_string());
  } else if constexpr (std::is_same_v<T, bool>) {
    value = json.as_bool();
  } else if constexpr (std::is_same_v<T, std::string>) {
    value = json.as_string();
  } else if constexpr (std::is_integral_v<T>) {
    int64_t number = json.as_int();
    if (!std::in_range<T>(number)) fail(ErrorCode::kRuntime, "the integer {} is out of range", number);
    value = static_cast<T>(number);
  } else if constexpr (std::is_floating_point_v<T>) {
    value = static_cast<T>(json.as_double());
  } else {
    value.clear();
    for (const Json& element : json.as_array()) {
      value.emplace_back();
      value_from_json(element, value.back());
    }
  }
}

}  // namespace ingot
