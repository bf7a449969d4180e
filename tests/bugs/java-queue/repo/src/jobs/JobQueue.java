package jobs;

import java.util.ArrayList;
import java.util.List;
import java.util.PriorityQueue;

/** Jobs that wait. */
public final class JobQueue {
    private final PriorityQueue<Job> waiting =
            new PriorityQueue<>((left, right) -> right.priority() - left.priority());
    private long added;

    /** Adds a job, which gets the next number. */
    public Job add(String name, int priority) {
        added += 1;
        Job job = new Job(added, priority, name);
        waiting.add(job);
        return job;
    }

    /** Takes the next job; {@code null} if none waits. */
    public Job take() {
        return waiting.poll();
    }

    /** Takes all jobs in the order in which they are due. */
    public List<Job> takeAll() {
        List<Job> jobs = new ArrayList<>();
        for (Job job = take(); job != null; job = take()) {
            jobs.add(job);
        }
        return jobs;
    }

    /** Takes a waiting job out; says whether it was there. */
    public boolean cancel(long number) {
        return waiting.removeIf(job -> job.number() == number);
    }

    public int size() {
        return waiting.size();
    }
}
