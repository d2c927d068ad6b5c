#include "checkpoint/safetensors.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "checkpoint/safetensors_writer.h"

namespace ingot {
namespace {

std::vector<StoredTensor> parse(const std::string& file) {
  return parse_safetensors(std::as_bytes(std::span(file.data(), file.size())));
}

std::string error_of(const std::string& file) {
  try {
    parse(file);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kRuntime);
    return error.what();
  }
  return "no error";
}

// `header` in front of `bytes` zero bytes fails, and the message contains all of `parts`.
void expect_error(const std::string& header, size_t bytes, const std::vector<std::string>& parts) {
  std::string error = error_of(safetensors_around(header, std::string(bytes, '\0')));
  for (const std::string& part : parts)
    EXPECT_NE(error.find(part), std::string::npos) << header << "\n  gives: " << error << "\n  without: " << part;
}

TEST(Safetensors, ReadsWhatWasWritten) {
  std::vector<StoredTensor> tensors = parse(safetensors_file({
      {"b", {parse_type("u8[3]"), {1, 2, 3}}},
      {"empty", HostTensor(parse_type("f32[0, 7]"))},
      {"a", {parse_type("f32[1, 2]"), {1, 2}}},
      {"scalar", {parse_type("bf16[]"), {4}}},
  }));
  ASSERT_EQ(tensors.size(), 4u);
  EXPECT_EQ(tensors[0].name, "b");
  EXPECT_EQ(tensors[0].type, parse_type("u8[3]"));
  EXPECT_EQ(tensors[2].name, "a");
  EXPECT_EQ(tensors[2].type, parse_type("f32[1, 2]"));
  EXPECT_EQ(tensors[2].offset, tensors[0].offset + 3);
  EXPECT_EQ(tensors[2].bytes, 8u);
  EXPECT_EQ(tensors[3].type, parse_type("bf16[]"));
  EXPECT_TRUE(parse(safetensors_around("{}", "")).empty());
}

TEST(Safetensors, RefusesLyingHeaders) {
  const std::string ok = R"("ok":{"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  expect_error("{" + ok + "}", 3, {"\"ok\"", "byte 4", "only 3", "truncated"});
  expect_error("{" + ok + "}", 5, {"1 bytes after the last tensor"});
  expect_error(R"({"x":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}})", 4, {"\"x\"", "F33", "BF16"});
  expect_error(R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4, {"\"x\"", "4 bytes", "f32[2] needs 8"});
  expect_error(R"({"x":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4, {"\"x\"", "-1"});
  expect_error(R"({"x":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}})", 4, {"\"x\"", "integer"});
  expect_error(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4, {"\"x\"", "[4, 0]"});
  expect_error(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}})", 4, {"\"x\"", "[-4, 0]"});
  expect_error(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}})", 4, {"\"x\"", "3 data_offsets"});
  expect_error(R"({"x":{"dtype":"F32","shape":[1]}})", 4, {"\"x\"", "data_offsets"});
  expect_error(R"({"x":{"shape":[1],"data_offsets":[0,4]}})", 4, {"\"x\"", "dtype"});
  expect_error(R"({"x":5})", 4, {"\"x\"", "object"});
  expect_error(R"({"x":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0,
               {"\"x\"", "overflow"});
  expect_error(R"({"x":{"dtype":"F32","shape":[0,4294967296,4294967296],"data_offsets":[0,0]}})", 0, {"overflow"});
  expect_error(R"({"x":{"dtype":"F32","shape":[9223372036854775807,9],"data_offsets":[0,0]}})", 0, {"overflow"});
  expect_error(R"({"x":{"dtype":"F32","shape":[1e300],"data_offsets":[0,4]}})", 4, {"\"x\""});
  expect_error(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,18446744073709551615]}})", 4, {"\"x\""});
  expect_error("{" + ok + R"(,"y":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}})", 6,
               {"\"y\"", "byte 2", "inside of \"ok\"", "ends at 4"});
  expect_error("{" + ok + R"(,"y":{"dtype":"F32","shape":[1],"data_offsets":[6,10]}})", 10,
               {"\"y\"", "4 to 6", "no tensor"});
  expect_error("{" + ok + "," + ok + "}", 4, {"\"ok\"", "twice"});
  expect_error("[]", 0, {"object"});
  expect_error("{", 0, {"JSON"});
  expect_error("", 0, {"JSON"});
  expect_error("{}x", 0, {"JSON"});
}

TEST(Safetensors, RefusesImpossibleHeaderLengths) {
  EXPECT_NE(error_of("").find("0 bytes"), std::string::npos);
  EXPECT_NE(error_of("1234567").find("7 bytes"), std::string::npos);
  std::string file = safetensors_around("{}", "");
  file[0] = 3;
  EXPECT_NE(error_of(file).find("only 2 follow"), std::string::npos);
  EXPECT_NE(error_of(std::string(20, '\xff')).find("more than the format allows"), std::string::npos);
}

TEST(Safetensors, EveryTruncationIsAnErrorThatNamesTheFile) {
  std::string file =
      safetensors_file({{"a", {parse_type("f32[3]"), {1, 2, 3}}}, {"b", HostTensor(parse_type("f16[2]"))}});
  TemporaryDirectory directory;
  for (size_t size = 0; size < file.size(); ++size) {
    directory.write("cut.safetensors", file.substr(0, size));
    try {
      SafetensorsFile cut(directory.path() / "cut.safetensors");
      ADD_FAILURE() << size;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("cut.safetensors: "), std::string::npos) << error.what();
    }
  }
  directory.write("whole.safetensors", file);
  EXPECT_EQ(SafetensorsFile(directory.path() / "whole.safetensors").tensors().size(), 2u);
  EXPECT_THROW(SafetensorsFile(directory.path() / "missing.safetensors"), Error);
}

}  // namespace
}  // namespace ingot
