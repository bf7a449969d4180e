package numerals;

/** Roman numerals. */
public final class Roman {
    private static final int[] VALUES = {1000, 900, 500, 100, 90, 50, 40, 10, 9, 5, 1};
    private static final String[] SIGNS = {"M", "CM", "D", "C", "XC", "L", "XL", "X", "IX", "V", "I"};

    private Roman() {}

    /** The numeral of a number from 1 to 3999. */
    public static String format(int number) {
        if (number < 1 || number > 3999) {
            throw new IllegalArgumentException("there is no numeral for " + number);
        }
        StringBuilder text = new StringBuilder();
        int left = number;
        for (int i = 0; i < VALUES.length; i++) {
            while (left >= VALUES[i]) {
                text.append(SIGNS[i]);
                left -= VALUES[i];
            }
        }
        return text.toString();
    }

    /** The number of a numeral; a sign before a greater one is subtracted. */
    public static int parse(String text) {
        int sum = 0;
        for (int i = 0; i < text.length(); i++) {
            int value = valueOf(text.charAt(i));
            boolean isSubtracted = i + 1 < text.length() && valueOf(text.charAt(i + 1)) > value;
            sum += isSubtracted ? -value : value;
        }
        return sum;
    }

    private static int valueOf(char sign) {
        switch (Character.toUpperCase(sign)) {
            case 'I': return 1;
            case 'V': return 5;
            case 'X': return 10;
            case 'L': return 50;
            case 'C': return 100;
            case 'D': return 500;
            case 'M': return 1000;
            default: throw new IllegalArgumentException("not a Roman sign: " + sign);
        }
    }
}
