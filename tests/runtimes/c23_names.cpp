// Names that a C library before 2.38 lacks and that libraries built with a newer one call: their earlier
// namesakes differ only in that they do not read binary numbers. See llama_quantize.py.
#include <cstdarg>
#include <cstdio>
#include <cstdlib>

#if !__GLIBC_PREREQ(2, 38)
extern "C" {

long __isoc23_strtol(const char* text, char** end, int base) {
  return std::strtol(text, end, base);
}

unsigned long __isoc23_strtoul(const char* text, char** end, int base) {
  return std::strtoul(text, end, base);
}

unsigned long long __isoc23_strtoull(const char* text, char** end, int base) {
  return std::strtoull(text, end, base);
}

int __isoc23_sscanf(const char* text, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const int count = std::vsscanf(text, format, arguments);
  va_end(arguments);
  return count;
}
}
#endif
