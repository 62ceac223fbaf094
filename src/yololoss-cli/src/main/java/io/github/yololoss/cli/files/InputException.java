package io.github.yololoss.cli.files;

/** Reports bad input in one sentence that names the file and the fault. */
public final class InputException extends RuntimeException {
  private static final long serialVersionUID = 1;

  /**
   * Makes the exception.
   *
   * @param sentence what is wrong, with its value, what is expected and what to do
   */
  public InputException(String sentence) {
    super(sentence);
  }
}
