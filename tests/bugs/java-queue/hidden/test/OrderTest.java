import java.util.List;
import jobs.Job;
import jobs.JobQueue;

public class OrderTest {
    public static void main(String[] arguments) {
        JobQueue queue = new JobQueue();
        for (int i = 0; i < 40; i++) {
            queue.add("job " + i, i % 2);
        }
        List<Job> jobs = queue.takeAll();
        for (int i = 1; i < jobs.size(); i++) {
            Job before = jobs.get(i - 1);
            Job after = jobs.get(i);
            assert before.priority() >= after.priority() : jobs;
            assert before.priority() != after.priority() || before.number() < after.number() : jobs;
        }
        queue.add("least", Integer.MIN_VALUE);
        queue.add("usual", 5);
        queue.add("most", Integer.MAX_VALUE);
        queue.add("below", -5);
        StringBuilder order = new StringBuilder();
        queue.takeAll().forEach(job -> order.append(job.name()).append(' '));
        assert order.toString().equals("most usual below least ") : order;
    }
}
