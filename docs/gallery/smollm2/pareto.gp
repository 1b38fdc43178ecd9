# Quality against the cache
# Draws pareto.svg; other formats: gnuplot -e "format='png'" pareto.gp (png, pdf, terminal)
if (!exists('format')) format = 'svg'
if (format eq 'svg') set terminal svg size 932,480 font 'DejaVu Sans,13' background '#ffffff' noenhanced
if (format eq 'png') set terminal pngcairo size 1398,720 font 'DejaVu Sans,10' fontscale 1.5 linewidth 1.5 pointscale 1.5 noenhanced
if (format eq 'pdf') set terminal pdfcairo size 9.32in,4.80in font 'DejaVu Sans,11' noenhanced
if (format eq 'terminal') set terminal dumb size 120,36 noenhanced
set output 'pareto.' . (format eq 'terminal' ? 'txt' : format)

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
set label '1' at 8640,465.8944109797882 offset 0.7,0.8 front
set label '2' at 46080,24.809052197043403 offset 0.7,0.8 front
set logscale y
set format y '%g'
set yrange [16.5394:870.109]
set ytics (20,50,100,200,500)
set xlabel 'bytes of the cache per token'
set ylabel 'wikitext2 perplexity'
set key outside right top Left reverse samplen 0.5
set offsets graph 0.05, graph 0.08, graph 0.08, graph 0.05
set xtics rotate by -30
plot 'pareto.dat' index 0 using 1:2 with steps lt 1 dt 2 lw 1 title 'Pareto front', \
  'pareto.dat' index 1 using 1:2:3 with yerrorbars lc rgb '#888888' dt 1 pt 6 ps 0.7 title 'dominated', \
  'pareto.dat' index 0 using 1:2:3 with yerrorbars lt 1 dt 1 pt 7 ps 0.8 title 'on the front', \
  NaN with points pt 7 ps 0.01 lc rgb '#ffffff' title '1  two_norm r=4 + joint_svd d_kv=16', \
  NaN with points pt 7 ps 0.01 lc rgb '#ffffff' title '2  not compressed', \
  NaN notitle
