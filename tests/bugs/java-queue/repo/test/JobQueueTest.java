import jobs.Job;
import jobs.JobQueue;

public class JobQueueTest {
    public static void main(String[] arguments) {
        JobQueue queue = new JobQueue();
        queue.add("low", 1);
        Job high = queue.add("high", 9);
        queue.add("middle", 5);
        assert queue.take().equals(high);
        assert queue.cancel(1) : "low waits";
        assert queue.takeAll().get(0).name().equals("middle");
        assert queue.take() == null && queue.size() == 0;
    }
}
