package shop;

public final class BasketTest {
    public static void main(String[] arguments) {
        Basket basket = new Basket();
        basket.add(250, 3);
        if (basket.cents() != 750) throw new AssertionError("750 expected, not " + basket.cents());
    }
}
