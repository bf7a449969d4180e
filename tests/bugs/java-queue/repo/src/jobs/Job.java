package jobs;

/** Something to do. A job keeps the number that the queue gave it. */
public record Job(long number, int priority, String name) {}
