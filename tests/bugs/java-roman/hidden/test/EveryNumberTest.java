import numerals.Roman;

public class EveryNumberTest {
    public static void main(String[] arguments) {
        assert Roman.format(4).equals("IV") : Roman.format(4);
        assert Roman.format(14).equals("XIV") : Roman.format(14);
        assert Roman.format(400).equals("CD") : Roman.format(400);
        assert Roman.format(3444).equals("MMMCDXLIV") : Roman.format(3444);
        for (int number = 1; number < 4000; number++) {
            String text = Roman.format(number);
            assert Roman.parse(text) == number : number + " is " + text;
            assert !text.matches(".*(I{4}|X{4}|C{4}).*") : text;
        }
    }
}
