# Training loss
# Draws loss.svg; other formats: gnuplot -e "format='png'" loss.gp (png, pdf, terminal)
if (!exists('format')) format = 'svg'
if (format eq 'svg') set terminal svg size 880,460 font 'DejaVu Sans,13' background '#ffffff' noenhanced
if (format eq 'png') set terminal pngcairo size 1320,690 font 'DejaVu Sans,10' fontscale 1.5 linewidth 1.5 pointscale 1.5 noenhanced
if (format eq 'pdf') set terminal pdfcairo size 8.80in,4.60in font 'DejaVu Sans,11' noenhanced
if (format eq 'terminal') set terminal dumb size 120,35 noenhanced
set output 'loss.' . (format eq 'terminal' ? 'txt' : format)

set linetype 1 lc rgb '#000000' lw 1.6 dt 1 pt 7 ps 0.7
set linetype 2 lc rgb '#0072b2' lw 1.6 dt 2 pt 5 ps 0.7
set linetype 3 lc rgb '#d55e00' lw 1.6 dt 4 pt 9 ps 0.8
set linetype 4 lc rgb '#009e73' lw 1.6 dt 3 pt 11 ps 0.8
set linetype 5 lc rgb '#cc79a7' lw 1.6 dt 5 pt 13 ps 0.9
set linetype 6 lc rgb '#56b4e9' lw 1.6 dt 1 pt 6 ps 0.7
set linetype 7 lc rgb '#e69f00' lw 1.6 dt 2 pt 4 ps 0.7
set linetype 8 lc rgb '#777777' lw 1.6 dt 4 pt 8 ps 0.8
set linetype 9 lc rgb '#004d79' lw 1.6 dt 3 pt 10 ps 0.8
set linetype 10 lc rgb '#8f3f00' lw 1.6 dt 5 pt 12 ps 0.9
set linetype 11 lc rgb '#00684d' lw 1.6 dt 1 pt 2 ps 0.7
set linetype 12 lc rgb '#8a4f70' lw 1.6 dt 2 pt 1 ps 0.7
set linetype cycle 12
set border 3 lc rgb '#444444'
set tics nomirror out
set grid lc rgb '#dddddd' lw 0.6 dt 1
set key noenhanced
set xlabel 'optimizer step'
set ylabel 'training loss (nats per token)'
set key outside right top Left reverse
plot \
  'loss.dat' index 0 using 1:2 with lines lt 1 title 'not compressed', \
  'loss.dat' index 1 using 1:2 with lines lt 2 title 'high r=4', \
  'loss.dat' index 2 using 1:2 with lines lt 3 title 'low r=4', \
  'loss.dat' index 3 using 1:2 with lines lt 4 title 'two_norm r=4', \
  'loss.dat' index 4 using 1:2 with lines lt 5 title 'uniform r=4', \
  'loss.dat' index 5 using 1:2 with lines lt 6 title 'high r=4 + joint_svd d_kv=16', \
  'loss.dat' index 6 using 1:2 with lines lt 7 title 'two_norm r=4 + joint_svd d_kv=16', \
  'loss.dat' index 7 using 1:2 with lines lt 8 title 'two_norm r=4 + split_svd d_kv=16', \
  'loss.dat' index 8 using 1:2 with lines lt 9 title 'uniform r=4 + joint_svd d_kv=16', \
  NaN notitle
