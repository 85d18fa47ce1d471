// Result<T>: a value, or an Error with a chain of contexts, for operations in which the *host* can fail.
//
// Guest misbehaviour never travels this way (the hardware's answer does), and our own bugs hit VENEER_ASSERT.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace veneer {

/// Why a host operation failed: one sentence, with the contexts it happened in put in front.
class Error {
 public:
  explicit Error(std::string message) : message_(std::move(message)) {}

  /// An error that ends with the text of an errno value: "opening a.img: No such file or directory".
  static Error from_errno(std::string_view what, int errno_value);

  /// The same error with a context in front: "reading header: " + message.
  Error context(std::string_view where) && {
    message_.insert(0, ": ");
    message_.insert(0, where);
    return std::move(*this);
  }

  const std::string& message() const { return message_; }

  /// The errno value behind it, or 0: for callers that act on the kind (a full disk) besides printing the sentence.
  int code() const { return code_; }
  Error with_code(int errno_value) && {
    code_ = errno_value;
    return std::move(*this);
  }

 private:
  std::string message_;
  int code_ = 0;
};

/// Either a T or an Error. T must be movable.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  T& value() & { return *std::get_if<0>(&state_); }
  const T& value() const& { return *std::get_if<0>(&state_); }
  T&& value() && { return std::move(*std::get_if<0>(&state_)); }
  Error& error() & { return *std::get_if<1>(&state_); }
  const Error& error() const& { return *std::get_if<1>(&state_); }
  Error&& error() && { return std::move(*std::get_if<1>(&state_)); }

 private:
  std::variant<T, Error> state_;
};

/// Success without a value, or an Error.
template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : state_(std::move(error)) {}

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }
  Error& error() & { return *std::get_if<1>(&state_); }
  const Error& error() const& { return *std::get_if<1>(&state_); }
  Error&& error() && { return std::move(*std::get_if<1>(&state_)); }

 private:
  std::variant<std::monostate, Error> state_;
};

}  // namespace veneer

#define VENEER_CONCAT_(a, b) a##b
#define VENEER_CONCAT(a, b) VENEER_CONCAT_(a, b)

/// TRY(auto x, f()): x is f()'s value; on an error the enclosing function returns that error.
#define TRY(declaration, expression) TRY_IMPL_(VENEER_CONCAT(try_result_, __LINE__), declaration, expression)
#define TRY_IMPL_(temporary, declaration, expression)     \
  auto temporary = (expression);                          \
  if (!temporary.ok()) return std::move(temporary).error(); \
  declaration = std::move(temporary).value()

/// TRY_VOID(f()): on an error the enclosing function returns that error.
#define TRY_VOID(expression)                                               \
  do {                                                                     \
    if (auto try_result_ = (expression); !try_result_.ok()) return std::move(try_result_).error(); \
  } while (0)
