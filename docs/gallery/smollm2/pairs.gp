# Rotation pairs that keep RoPE
# Draws pairs.svg; other formats: gnuplot -e "format='png'" pairs.gp (png, pdf, terminal)
if (!exists('format')) format = 'svg'
if (format eq 'svg') set terminal svg size 920,900 font 'DejaVu Sans,13' background '#ffffff' noenhanced
if (format eq 'png') set terminal pngcairo size 1380,1350 font 'DejaVu Sans,10' fontscale 1.5 linewidth 1.5 pointscale 1.5 noenhanced
if (format eq 'pdf') set terminal pdfcairo size 9.20in,9.00in font 'DejaVu Sans,11' noenhanced
if (format eq 'terminal') set terminal dumb size 120,60 noenhanced
set output 'pairs.' . (format eq 'terminal' ? 'txt' : format)

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
unset grid
set border 15
set xrange [-0.5:31.5]
set yrange [89.5:-0.5]
set ytics ('0' 1, '1' 4, '2' 7, '3' 10, '4' 13, '5' 16, '6' 19, '7' 22, '8' 25, '9' 28, '10' 31, '11' 34, '12' 37, '13' 40, '14' 43, '15' 46, '16' 49, '17' 52, '18' 55, '19' 58, '20' 61, '21' 64, '22' 67, '23' 70, '24' 73, '25' 76, '26' 79, '27' 82, '28' 85, '29' 88)
set xtics 8
set arrow from -0.5,2.5 to 31.5,2.5 nohead lc rgb '#aaaaaa' lw 0.5 front
set arrow from -0.5,5.5 to 31.5,5.5 nohead lc rgb '#aaaaaa' lw 0.5 front
set arrow from -0.5,8.5 to 31.5,8.5 nohead lc rgb '#aaaaaa' lw 0.5 front
set arrow from -0.5,11.5 to 31.5,11.5 nohead lc rgb '#aaaaaa' lw 0.5 front
set arrow from -0.5,14.5 to 31.5,14.5 nohead lc rgb '#aaaaaa' lw 0.5 front
set arrow from -0.5,17.5 to 31.5,17.5 nohead lc rgb '#aaaaaa' lw 0.5 front
set arrow from -0.5,20.5 to 31.5,20.5 nohead lc rgb '#aaaaaa' lw 0.5 front
set arrow from -0.5,23.5 to 31.5,23.5 nohead lc rgb '#aaaaaa' lw 0.5 front
set arrow from -0.5,26.5 to 31.5,26.5 nohead lc rgb '#aaaaaa' lw 0.5 front
set arrow from -0.5,29.5 to 31.5,29.5 nohead lc rgb '#aaaaaa' lw 0.5 front
set arrow from -0.5,32.5 to 31.5,32.5 nohead lc rgb '#aaaaaa' lw 0.5 front
set arrow from -0.5,35.5 to 31.5,35.5 nohead lc rgb '#aaaaaa' lw 0.5 front
set arrow from -0.5,38.5 to 31.5,38.5 nohead lc rgb '#aaaaaa' lw 0.5 front
set arrow from -0.5,41.5 to 31.5,41.5 nohead lc rgb '#aaaaaa' lw 0.5 front
set arrow from -0.5,44.5 to 31.5,44.5 nohead lc rgb '#aaaaaa' lw 0.5 front
set arrow from -0.5,47.5 to 31.5,47.5 nohead lc rgb '#aaaaaa' lw 0.5 front
set arrow from -0.5,50.5 to 31.5,50.5 nohead lc rgb '#aaaaaa' lw 0.5 front
set arrow from -0.5,53.5 to 31.5,53.5 nohead lc rgb '#aaaaaa' lw 0.5 front
set arrow from -0.5,56.5 to 31.5,56.5 nohead lc rgb '#aaaaaa' lw 0.5 front
set arrow from -0.5,59.5 to 31.5,59.5 nohead lc rgb '#aaaaaa' lw 0.5 front
set arrow from -0.5,62.5 to 31.5,62.5 nohead lc rgb '#aaaaaa' lw 0.5 front
set arrow from -0.5,65.5 to 31.5,65.5 nohead lc rgb '#aaaaaa' lw 0.5 front
set arrow from -0.5,68.5 to 31.5,68.5 nohead lc rgb '#aaaaaa' lw 0.5 front
set arrow from -0.5,71.5 to 31.5,71.5 nohead lc rgb '#aaaaaa' lw 0.5 front
set arrow from -0.5,74.5 to 31.5,74.5 nohead lc rgb '#aaaaaa' lw 0.5 front
set arrow from -0.5,77.5 to 31.5,77.5 nohead lc rgb '#aaaaaa' lw 0.5 front
set arrow from -0.5,80.5 to 31.5,80.5 nohead lc rgb '#aaaaaa' lw 0.5 front
set arrow from -0.5,83.5 to 31.5,83.5 nohead lc rgb '#aaaaaa' lw 0.5 front
set arrow from -0.5,86.5 to 31.5,86.5 nohead lc rgb '#aaaaaa' lw 0.5 front
set ylabel 'layer (rows: KV heads)'
set xlabel 'rotation pair'
set multiplot layout 1,4 margins 0.087,0.98,0.12,0.9 spacing 0.039
set title 'high r=4'
plot 'pairs.dat' index 0 using 1:2:(0.46):(0.46) with boxxyerror lc rgb '#1f3a5f' fs solid noborder notitle
set ylabel ' '
set title 'low r=4'
plot 'pairs.dat' index 1 using 1:2:(0.46):(0.46) with boxxyerror lc rgb '#1f3a5f' fs solid noborder notitle
set title 'two_norm r=4'
plot 'pairs.dat' index 2 using 1:2:(0.46):(0.46) with boxxyerror lc rgb '#1f3a5f' fs solid noborder notitle
set title 'uniform r=4'
plot 'pairs.dat' index 3 using 1:2:(0.46):(0.46) with boxxyerror lc rgb '#1f3a5f' fs solid noborder notitle
unset multiplot
