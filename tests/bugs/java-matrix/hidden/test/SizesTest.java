import linear.Matrix;

public class SizesTest {
    public static void main(String[] arguments) {
        Matrix wide = Matrix.of(new long[] {1, 2, 3}, new long[] {4, 5, 6});
        Matrix tall = wide.transposed();
        assert wide.times(tall).equals(Matrix.of(new long[] {14, 32}, new long[] {32, 77})) : wide.times(tall);
        Matrix product = tall.times(wide);
        assert product.rows() == 3 && product.columns() == 3 : product;
        assert product.at(2, 0) == 27 : product;
        Matrix row = Matrix.of(new long[] {1, 1});
        assert row.times(wide).equals(Matrix.of(new long[] {5, 7, 9}));
        for (Matrix[] pair : new Matrix[][] {{wide, wide}, {wide, row}}) {
            try {
                pair[0].times(pair[1]);
            } catch (IllegalArgumentException expected) {
                continue;
            }
            throw new AssertionError("the sizes do not fit");
        }
    }
}
