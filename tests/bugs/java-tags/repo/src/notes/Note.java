package notes;

import java.util.List;

/** A text with tags. */
public record Note(String text, List<String> tags) {
    public Note {
        tags = List.copyOf(tags);
    }
}
