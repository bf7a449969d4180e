package notes;

import java.util.ArrayList;
import java.util.List;
import java.util.TreeSet;

/** Notes in the order in which they were written. */
public final class Notebook {
    private final List<Note> notes = new ArrayList<>();

    public void add(String text, String... tags) {
        notes.add(new Note(text, List.of(tags)));
    }

    /** The notes that have a tag. */
    public List<Note> withTag(String tag) {
        List<Note> found = new ArrayList<>();
        for (Note note : notes) {
            for (String own : note.tags()) {
                if (own == tag) {
                    found.add(note);
                    break;
                }
            }
        }
        return found;
    }

    /** The notes whose text holds some words, in any case. */
    public List<Note> withText(String words) {
        String wanted = words.toLowerCase();
        return notes.stream().filter(note -> note.text().toLowerCase().contains(wanted)).toList();
    }

    /** All tags in alphabetical order, each once. */
    public List<String> tags() {
        TreeSet<String> all = new TreeSet<>(String.CASE_INSENSITIVE_ORDER);
        notes.forEach(note -> all.addAll(note.tags()));
        return new ArrayList<>(all);
    }
}
