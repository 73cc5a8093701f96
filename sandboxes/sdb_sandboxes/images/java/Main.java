import java.io.*;
import java.math.*;
import java.util.*;
import java.util.stream.*;

class Warm {
    static List<Integer> sort(List<Integer> numbers) {
        return numbers.stream().sorted((a, b) -> b - a).collect(Collectors.toList());
    }
}

class Main {
    public static void main(String[] arguments) throws Exception {
        Map<String, List<Integer>> map = new HashMap<>();
        for (String key : Arrays.asList("a", "b")) {
            map.computeIfAbsent(key, ignored -> new ArrayList<>()).add(key.length());
        }
        if (!Warm.sort(Arrays.asList(1, 3, 2)).equals(Arrays.asList(3, 2, 1))) {
            throw new Exception("sorted " + map);
        }
        System.out.printf("%s %s%n", BigInteger.TEN, new Scanner("1 2").nextInt());
    }
}
