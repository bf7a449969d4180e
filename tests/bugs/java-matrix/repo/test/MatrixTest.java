import linear.Matrix;

public class MatrixTest {
    public static void main(String[] arguments) {
        Matrix a = Matrix.of(new long[] {1, 2}, new long[] {3, 4});
        Matrix b = Matrix.of(new long[] {0, 1}, new long[] {1, 0});
        assert a.times(b).equals(Matrix.of(new long[] {2, 1}, new long[] {4, 3})) : a.times(b);
        assert a.transposed().equals(Matrix.of(new long[] {1, 3}, new long[] {2, 4}));
    }
}
