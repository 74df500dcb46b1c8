/* Arithmetic on decimal texts in C's long double: sums for INCRBYFLOAT, and
 * the timeouts of blocking commands.
 *
 * Redis computes these in the platform's long double (80 bits on x86) and
 * prints 17 decimals; Rust has no such type. Nothing else belongs here. */

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Texts of this length and longer are refused, as in Redis. */
#define TEXT_MAX 5120

#define NOT_A_FLOAT -1
#define NOT_FINITE -2

static int parse(const char *text, size_t len, long double *value) {
    char copy[TEXT_MAX];
    char *end;

    if (len == 0 || len >= sizeof copy) return 0;
    memcpy(copy, text, len);
    copy[len] = '\0';
    if (isspace((unsigned char)copy[0])) return 0;
    errno = 0;
    *value = strtold(copy, &end);
    if (end != copy + len || isnan(*value)) return 0;
    /* Out of range: too large, or not zero but rounded to it. */
    if (errno == ERANGE && (isinf(*value) || *value == 0)) return 0;
    return errno != EINVAL;
}

/* Writes a + b into out, without trailing zeros, and returns the length, or
 * one of the negative codes above. out must hold TEXT_MAX bytes. */
int cairn_long_double_add(const char *a, size_t a_len, const char *b, size_t b_len, char *out) {
    long double x, y;
    int len;

    if (!parse(a, a_len, &x) || !parse(b, b_len, &y)) return NOT_A_FLOAT;
    x += y;
    if (isnan(x) || isinf(x)) return NOT_FINITE;
    len = snprintf(out, TEXT_MAX, "%.17Lf", x);
    if (len < 0 || len >= TEXT_MAX) return NOT_FINITE;
    while (out[len - 1] == '0') len--;
    if (out[len - 1] == '.') len--;
    if (len == 2 && out[0] == '-' && out[1] == '0') {
        out[0] = '0';
        len = 1;
    }
    return len;
}

/* Seconds as whole milliseconds, rounded up. What does not fit becomes the
 * least number, as Redis's conversion makes it on x86 (and then refuses as
 * negative). */
int cairn_long_double_millis(const char *text, size_t len, long long *millis) {
    long double seconds;

    if (!parse(text, len, &seconds)) return NOT_A_FLOAT;
    seconds = ceill(seconds * 1000.0L);
    /* 2^63 itself is the first that does not fit. */
    if (seconds >= 9223372036854775808.0L || seconds < -9223372036854775808.0L)
        *millis = LLONG_MIN;
    else
        *millis = (long long)seconds;
    return 0;
}
