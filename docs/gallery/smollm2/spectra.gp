# Singular values and energy
# Draws spectra.svg; other formats: gnuplot -e "format='png'" spectra.gp (png, pdf, terminal)
if (!exists('format')) format = 'svg'
if (format eq 'svg') set terminal svg size 900,430 font 'DejaVu Sans,13' background '#ffffff' noenhanced
if (format eq 'png') set terminal pngcairo size 1350,645 font 'DejaVu Sans,10' fontscale 1.5 linewidth 1.5 pointscale 1.5 noenhanced
if (format eq 'pdf') set terminal pdfcairo size 9.00in,4.30in font 'DejaVu Sans,11' noenhanced
if (format eq 'terminal') set terminal dumb size 120,33 noenhanced
set output 'spectra.' . (format eq 'terminal' ? 'txt' : format)

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
set palette defined (0 '#000000', 0.5 '#0072b2', 1 '#9fd0ee')
set cbrange [0:29]
set cblabel 'layer'
set cbtics 3
set multiplot layout 1,2 margins 0.09,0.9,0.16,0.92 spacing 0.11
set logscale y
set format y '%g'
unset colorbox
set xlabel 'rank'
set ylabel 'singular value'
plot for [i=0:29] 'spectra.dat' index i using 1:2:(i) with lines lw 1.4 dt 1 lc palette z notitle
unset logscale y
set yrange [0:1]
set colorbox user origin 0.92,0.16 size 0.015,0.76
set ylabel 'share of the energy kept'
plot for [i=0:29] 'spectra.dat' index i using 1:3:(i) with lines lw 1.4 dt 1 lc palette z notitle
unset multiplot
