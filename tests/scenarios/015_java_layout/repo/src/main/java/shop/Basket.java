package shop;

public final class Basket {
    private int cents;

    public void add(int price, int count) {
        cents += price;
    }

    public int cents() {
        return cents;
    }
}
