#include "tensor/type.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace ingot {
namespace {

TEST(TensorType, TextReadsBackAsItself) {
  for (const char* text : {"f32[]", "bf16[4096]", "bf16[tokens, 4096]", "i32[8*tokens, 2]", "f16[sequences+1]",
                           "f64[2*pages -1, 3]", "bf16[8, 16]@tiles_16x32", "bool[1]", "u8[0]"}) {
    EXPECT_EQ(print(parse_type(text)), text);
    EXPECT_EQ(parse_type(print(parse_type(text))), parse_type(text));
  }
  EXPECT_EQ(print(parse_type(" f32 [ 2,tokens ] ")), "f32[2, tokens]");
}

TEST(TensorType, MistakesAreErrors) {
  for (const char* text : {"", "f31[2]", "f32", "f32[", "f32[2", "f32[2,]", "f32[,2]", "f32[2] x", "f32[2*3]",
                           "f32[2]@", "f32[99999999999999999999]"})
    EXPECT_THROW(parse_type(text), Error) << text;
}

TEST(TensorType, SymbolsTakeValues) {
  TensorType type = parse_type("bf16[8*tokens -1, 4]");
  EXPECT_FALSE(type.is_constant());
  EXPECT_EQ(type.at({{"tokens", 3}}), parse_type("bf16[23, 4]"));
  EXPECT_EQ(type.at({{"tokens", 3}}).bytes(), 23 * 4 * 2);
  EXPECT_THROW(type.at({{"pages", 3}}), Error);
  EXPECT_THROW(type.elements(), Error);
  EXPECT_THROW(type.sizes(), Error);
}

TEST(TensorType, TooManyElementsAreAnError) {
  EXPECT_THROW(parse_type("f32[4294967296, 4294967296]").elements(), Error);
  EXPECT_EQ(parse_type("f32[]").elements(), 1);
  EXPECT_EQ(parse_type("f32[4, 0]").elements(), 0);
}

}  // namespace
}  // namespace ingot
