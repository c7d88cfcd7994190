# The mean of the second column of a CSV with a heading.
BEGIN { FS = "," }
NR > 1 { sum += $2; count += 1 }
END { if (count) printf "%.1f mm in the mean of %d years\n", sum / count, count }
