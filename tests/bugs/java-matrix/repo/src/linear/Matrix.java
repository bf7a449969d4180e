package linear;

import java.util.Arrays;

/** A matrix of whole numbers that does not change. */
public final class Matrix {
    private final long[][] cells;

    private Matrix(long[][] cells) {
        this.cells = cells;
    }

    /** A matrix of its rows, which all have the same length. */
    public static Matrix of(long[]... rows) {
        long[][] copy = new long[rows.length][];
        for (int row = 0; row < rows.length; row++) {
            if (rows[row].length != rows[0].length) {
                throw new IllegalArgumentException("the rows differ in length");
            }
            copy[row] = rows[row].clone();
        }
        return new Matrix(copy);
    }

    public int rows() {
        return cells.length;
    }

    public int columns() {
        return cells[0].length;
    }

    public long at(int row, int column) {
        return cells[row][column];
    }

    /**
     * This matrix times another one.
     *
     * @throws IllegalArgumentException if the other one does not have as many rows as this one has columns
     */
    public Matrix times(Matrix other) {
        long[][] product = new long[rows()][columns()];
        for (int row = 0; row < rows(); row++) {
            for (int column = 0; column < columns(); column++) {
                for (int i = 0; i < columns(); i++) {
                    product[row][column] += cells[row][i] * other.cells[i][column];
                }
            }
        }
        return new Matrix(product);
    }

    /** Rows become columns. */
    public Matrix transposed() {
        long[][] result = new long[columns()][rows()];
        for (int row = 0; row < rows(); row++) {
            for (int column = 0; column < columns(); column++) {
                result[column][row] = cells[row][column];
            }
        }
        return new Matrix(result);
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof Matrix && Arrays.deepEquals(cells, ((Matrix) other).cells);
    }

    @Override
    public int hashCode() {
        return Arrays.deepHashCode(cells);
    }

    @Override
    public String toString() {
        return Arrays.deepToString(cells);
    }
}
