import notes.Notebook;

public class TypedTagTest {
    public static void main(String[] arguments) {
        Notebook notebook = new Notebook();
        notebook.add("Buy milk", "home", "shop");
        notebook.add("Fix the gate", "Home");
        notebook.add("Twice", "home", "HOME");
        String typed = new StringBuilder("shop").toString();
        assert notebook.withTag(typed).size() == 1 : "typed";
        assert notebook.withTag("HOME").size() == 3 : "in any case, each note once";
        assert notebook.withTag("hom").isEmpty() : "whole tags only";
    }
}
