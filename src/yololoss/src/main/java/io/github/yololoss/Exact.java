package io.github.yololoss;

/**
 * Sums doubles exactly, as the native library does ({@code exact_sum.h} explains it). A sum is a
 * part of a longer array of words. It exists in Java too, so that results can be merged where there
 * is no native library.
 */
final class Exact {
  private static final int DIGITS = 68; // digit i is worth 2^(32*i - 1074); the last has the sign
  private static final int NAN = DIGITS; // number of NaNs that were added; the next two likewise
  private static final int INFINITY = DIGITS + 1;
  private static final int MINUS_INFINITY = DIGITS + 2;
  private static final long DIGIT = 0xffff_ffffL;

  /** The number of words of a sum. */
  static final int WORDS = DIGITS + 3;

  private Exact() {}

  /** Adds a number; at most 2^30 times before the next carry. */
  static void add(long[] words, int at, double x) {
    if (!Double.isFinite(x)) {
      words[at + (Double.isNaN(x) ? NAN : x > 0 ? INFINITY : MINUS_INFINITY)]++;
      return;
    }
    long bits = Double.doubleToRawLongBits(x);
    int exponent = (int) (bits >>> 52) & 0x7ff;
    long fraction = bits & (1L << 52) - 1;
    long mantissa = exponent == 0 ? fraction : fraction | 1L << 52;
    int place = Math.max(exponent - 1, 0); // of the mantissa's last bit
    int shift = place % 32;
    long sign = bits < 0 ? -1 : 1;
    int first = at + place / 32;
    words[first] += sign * (mantissa << shift & DIGIT);
    words[first + 1] += sign * (mantissa >>> 32 - shift & DIGIT);
    words[first + 2] += sign * (shift == 0 ? 0 : mantissa >>> 64 - shift);
  }

  /** Brings every digit but the last into 0..2^32-1, so that equal sums have equal words. */
  static void carry(long[] words, int at) {
    for (int i = at; i < at + DIGITS - 1; i++) {
      words[i + 1] += words[i] >> 32;
      words[i] &= DIGIT;
    }
  }

  /** Returns the sum, rounded once, to nearest even. The words must be carried. */
  static double value(long[] words, int at) {
    boolean up = words[at + INFINITY] != 0;
    boolean down = words[at + MINUS_INFINITY] != 0;
    if (words[at + NAN] != 0 || up && down) {
      return Double.NaN;
    }
    if (up || down) {
      return up ? Double.POSITIVE_INFINITY : Double.NEGATIVE_INFINITY;
    }
    long[] digits = new long[DIGITS];
    System.arraycopy(words, at, digits, 0, DIGITS);
    boolean negative = digits[DIGITS - 1] < 0;
    if (negative) {
      for (int i = 0; i < DIGITS; i++) {
        digits[i] = -digits[i];
      }
      carry(digits, 0);
    }
    int top = DIGITS - 1;
    while (top > 0 && digits[top] == 0) {
      top--;
    }
    // The first 63 bits, the last of them set if any after it is: more than the 55 that rounding
    // needs.
    int length = 32 * top + Long.SIZE - Long.numberOfLeadingZeros(digits[top]);
    int place = Math.max(length - 63, 0);
    int first = place / 32;
    long window = digits[first] >> place % 32;
    for (int i = first + 1; i <= top; i++) {
      window |= digits[i] << 32 * i - place;
    }
    boolean more = (digits[first] & (1L << place % 32) - 1) != 0;
    for (int i = 0; i < first; i++) {
      more |= digits[i] != 0;
    }
    double value = Math.scalb((double) (more ? window | 1 : window), place - 1074);
    return negative ? -value : value;
  }
}
