package bank;

/** An account in cents that may be overdrawn to a limit. */
public final class Account {
    private final String owner;
    private final long overdraft;
    private long balance;

    /** An empty account; {@code overdraft} is how far below zero it may go. */
    public Account(String owner, long overdraft) {
        if (overdraft < 0) {
            throw new IllegalArgumentException("an overdraft is not negative");
        }
        this.owner = owner;
        this.overdraft = overdraft;
    }

    public String owner() {
        return owner;
    }

    public long balance() {
        return balance;
    }

    /** What can be withdrawn now. */
    public long available() {
        return balance + overdraft;
    }

    public void deposit(long amount) {
        requirePositive(amount);
        balance += amount;
    }

    /** Takes the amount out if that much is available, and says whether it did. */
    public boolean withdraw(long amount) {
        requirePositive(amount);
        if (amount >= available()) {
            return false;
        }
        balance -= amount;
        return true;
    }

    /** Moves the amount to another account, or does nothing. */
    public boolean transfer(Account to, long amount) {
        if (!withdraw(amount)) {
            return false;
        }
        to.deposit(amount);
        return true;
    }

    private static void requirePositive(long amount) {
        if (amount <= 0) {
            throw new IllegalArgumentException("an amount is positive");
        }
    }
}
