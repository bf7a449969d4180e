import bank.Account;

public class AllOfItTest {
    public static void main(String[] arguments) {
        Account account = new Account("Ada", 50);
        account.deposit(100);
        assert !account.withdraw(151) : "too much";
        assert account.balance() == 100 : account.balance();
        assert account.withdraw(150) : "all";
        assert account.balance() == -50 : account.balance();
        assert !account.withdraw(1) : "nothing is left";
        Account full = new Account("Bob", 0);
        full.deposit(7);
        assert full.transfer(account, 7) : "all to another";
        assert full.balance() == 0 && account.balance() == -43;
    }
}
