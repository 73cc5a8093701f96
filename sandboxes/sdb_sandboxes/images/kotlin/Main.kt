data class Pair2(val left: Int, val right: String)

fun sort(numbers: List<Int>): List<Int> = numbers.sortedByDescending { it }.filter { it > 1 }

fun main() {
    val map = mutableMapOf<String, MutableList<Int>>()
    for ((index, key) in listOf("a", "b").withIndex()) {
        map.getOrPut(key) { mutableListOf() }.add(index)
    }
    val found: List<Int> = sort(mutableListOf(1, 3, 2))
    if (found != mutableListOf(3, 2)) {
        throw Exception("sorted $found $map ${Pair2(1, "x")}")
    }
    when (found.size) {
        2 -> println("two".map { it.toInt() }.joinToString(","))
        else -> println(Regex("[a-z]+").find("word")?.value ?: "none")
    }
}
