package android.content;

/** As Android's, as far as the guide and the README use it. */
public class Context {}
