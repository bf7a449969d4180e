import numerals.Roman;

public class RomanTest {
    public static void main(String[] arguments) {
        assert Roman.format(1).equals("I");
        assert Roman.format(1999).equals("MCMXCIX") : Roman.format(1999);
        assert Roman.format(42 - 1).equals("XLI");
        assert Roman.parse("XLII") == 42;
        assert Roman.parse("mmxxiv") == 2024;
    }
}
