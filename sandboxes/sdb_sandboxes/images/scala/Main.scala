import scala.collection.mutable

object Main extends App {
  case class Point(x: Int, label: String)

  def sort(numbers: List[Int]): List[Int] = numbers.filter(_ > 1).sortBy(-_)

  val map = mutable.Map[String, Int]()
  for ((key, index) <- List("a", "b").zipWithIndex) {
    map(key) = map.getOrElse(key, 0) + index
  }
  var found: List[Int] = sort(List(1, 3, 2))
  found match {
    case head :: tail => println(s"$head ${Point(1, "x")} ${"[a-z]+".r.findFirstIn("word")}")
    case Nil => println("none")
  }
  assert(found == List(3, 2), "sorted " + map)
}
