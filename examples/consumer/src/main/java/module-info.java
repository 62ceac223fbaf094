/** A user's module. */
module com.example.consumer {
  requires io.github.yololoss;
}
