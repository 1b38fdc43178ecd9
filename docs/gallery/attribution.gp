# What each step costs
# Draws attribution.svg; other formats: gnuplot -e "format='png'" attribution.gp (png, pdf, terminal)
if (!exists('format')) format = 'svg'
if (format eq 'svg') set terminal svg size 760,440 font 'DejaVu Sans,13' background '#ffffff' noenhanced
if (format eq 'png') set terminal pngcairo size 1140,660 font 'DejaVu Sans,10' fontscale 1.5 linewidth 1.5 pointscale 1.5 noenhanced
if (format eq 'pdf') set terminal pdfcairo size 7.60in,4.40in font 'DejaVu Sans,11' noenhanced
if (format eq 'terminal') set terminal dumb size 120,33 noenhanced
set output 'attribution.' . (format eq 'terminal' ? 'txt' : format)

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
set label '2.374' at 0,2.373937050192256 center offset 0,0.8 front
set label '+6.91' at 1,9.284137515818253 center offset 0,0.8 front
set label '-6.706' at 2,9.284137515818253 center offset 0,0.8 front
set boxwidth 0.6
set style fill solid 0.85 border lc rgb '#444444'
set xtics ('source' 0, 'converted' 1, 'fine tuned' 2)
set xrange [-0.6:2.6]
set ylabel 'perplexity'
set yrange [0:10.676758143190991]
set key top left Left reverse
plot \
  'attribution.dat' using ($4==0?$1:NaN):2:($1-0.3):($1+0.3):2:3 with boxxyerror lc rgb '#999999' dt 1 title 'source model', \
  'attribution.dat' using ($4==2?$1:NaN):2:($1-0.3):($1+0.3):2:3 with boxxyerror lc rgb '#8f3f00' dt 1 title 'worse', \
  'attribution.dat' using ($4==1?$1:NaN):2:($1-0.3):($1+0.3):2:3 with boxxyerror lc rgb '#9fd0ee' dt 1 title 'better', \
  NaN notitle
