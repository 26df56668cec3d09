package android.os;

/** As Android's, as far as the guide and the README use it. */
public final class Bundle {}
