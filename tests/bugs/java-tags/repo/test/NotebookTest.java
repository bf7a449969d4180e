import java.util.List;
import notes.Notebook;

public class NotebookTest {
    public static void main(String[] arguments) {
        Notebook notebook = new Notebook();
        notebook.add("Buy milk", "home", "shop");
        notebook.add("Fix the gate", "Home");
        assert notebook.withTag("shop").size() == 1;
        assert notebook.withTag("work").isEmpty();
        assert notebook.withText("GATE").size() == 1;
        assert notebook.tags().equals(List.of("home", "shop")) : notebook.tags();
    }
}
