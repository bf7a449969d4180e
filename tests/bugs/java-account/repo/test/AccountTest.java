import bank.Account;

public class AccountTest {
    public static void main(String[] arguments) {
        Account account = new Account("Ada", 0);
        account.deposit(100);
        assert !account.withdraw(101) : "101 of 100";
        assert account.withdraw(30) : "30 of 100";
        assert account.balance() == 70 : account.balance();
        Account other = new Account("Bob", 50);
        assert account.transfer(other, 20) : "a transfer";
        assert other.available() == 70 : other.available();
        assert account.withdraw(50) : "all that is left";
    }
}
