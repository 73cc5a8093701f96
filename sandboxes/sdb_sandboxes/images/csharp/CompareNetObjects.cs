// A small stand-in for the comparison library that MBXP's C# tests name: deep equality of plain
// data (numbers, texts, lists, arrays, dictionaries, tuples) by structure, and nothing more.
using System;
using System.Collections;
using System.Reflection;

namespace KellermanSoftware.CompareNetObjects
{
    public class ComparisonResult
    {
        public bool AreEqual { get; internal set; }
        public string DifferencesString { get { return AreEqual ? "" : "the objects differ"; } }
    }

    public class CompareLogic
    {
        public ComparisonResult Compare(object expected, object actual)
        {
            return new ComparisonResult { AreEqual = IsSame(expected, actual, 0) };
        }

        private static bool IsSame(object left, object right, int depth)
        {
            if (left == null || right == null) return left == null && right == null;
            if (left.GetType() != right.GetType() || depth > 100) return false;
            var type = left.GetType();
            if (type.IsPrimitive || type.IsEnum || left is string || left is decimal)
            {
                return left.Equals(right);
            }
            if (left is IDictionary) return IsSameMap((IDictionary)left, (IDictionary)right, depth);
            if (left is IEnumerable) return IsSameSequence((IEnumerable)left, (IEnumerable)right, depth);
            const BindingFlags shown = BindingFlags.Instance | BindingFlags.Public;
            foreach (var property in type.GetProperties(shown))
            {
                if (property.GetIndexParameters().Length > 0 || !property.CanRead) continue;
                if (!IsSame(property.GetValue(left), property.GetValue(right), depth + 1)) return false;
            }
            foreach (var field in type.GetFields(shown))
            {
                if (!IsSame(field.GetValue(left), field.GetValue(right), depth + 1)) return false;
            }
            return true;
        }

        private static bool IsSameMap(IDictionary left, IDictionary right, int depth)
        {
            if (left.Count != right.Count) return false;
            foreach (DictionaryEntry entry in left)
            {
                if (!right.Contains(entry.Key)) return false;
                if (!IsSame(entry.Value, right[entry.Key], depth + 1)) return false;
            }
            return true;
        }

        private static bool IsSameSequence(IEnumerable left, IEnumerable right, int depth)
        {
            var ours = left.GetEnumerator();
            var theirs = right.GetEnumerator();
            while (ours.MoveNext())
            {
                if (!theirs.MoveNext() || !IsSame(ours.Current, theirs.Current, depth + 1)) return false;
            }
            return !theirs.MoveNext();
        }
    }
}
