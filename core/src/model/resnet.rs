//! Residual networks of convolutions. He et al. 2015, with the stride in the 3 × 3 convolution of a bottleneck (v1.5); parameter names are timm's and
//! torchvision's. Batch norms are in the form of evaluation: their statistics are fixed.

use super::image::{ImageDims, ImageModel, PixelOrder};
use crate::graph::{Graph, Tensor, Window};
use crate::nn::{ConvNorm, Dropout, Stack};
use crate::params::{Init, ParamId, Part, Scope};
use crate::repeat;

/// The most stages of a model.
pub const MAX_STAGES: usize = 8;

/// The scopes of stages.
const STAGES: [&str; MAX_STAGES] = ["layer1", "layer2", "layer3", "layer4", "layer5", "layer6", "layer7", "layer8"];

/// Columns of a bottleneck's result over those of its 3 × 3 convolution.
const EXPANSION: usize = 4;

/// The size of a stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stage {
    /// Blocks; 0: there is no such stage, nor one after it.
    pub depth: usize,
    /// Channels of its result.
    pub channels: usize,
}

/// A model of the family.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ResNetConfig {
    /// Height and width of images in pixels. The features of a model do not depend on it.
    pub image_size: [usize; 2],
    /// Values of a pixel.
    pub num_channels: usize,
    /// Channels of the stem.
    pub embedding_size: usize,
    /// The stages, one after the other.
    pub stages: [Stage; MAX_STAGES],
    /// Whether blocks are bottlenecks of three convolutions, 1 × 1, 3 × 3, 1 × 1; otherwise they have two of 3 × 3.
    pub bottleneck: bool,
    /// Whether the first stage halves height and width as the others do.
    pub downsample_in_first_stage: bool,
    /// Whether the first convolution of a bottleneck has the stride, and not its second.
    pub downsample_in_bottleneck: bool,
    /// Whether gain and offset of batch norms are trained.
    pub trained_norms: bool,
    /// ε of batch norms.
    pub norm_eps: f64,
    /// Classes.
    pub num_labels: usize,
}

impl ResNetConfig {
    /// ResNet-50 v1.5 at 224 pixels: 25.6 M parameters with 1000 classes.
    pub const RESNET_50: Self = Self {
        image_size: [224; 2],
        num_channels: 3,
        embedding_size: 64,
        stages: stages(&[(3, 256), (4, 512), (6, 1024), (3, 2048)]),
        bottleneck: true,
        downsample_in_first_stage: false,
        downsample_in_bottleneck: false,
        trained_norms: true,
        norm_eps: 1e-5,
        num_labels: 1000,
    };

    /// The stages that there are.
    pub fn stages(&self) -> impl Iterator<Item = Stage> {
        self.stages.into_iter().take_while(|stage| stage.depth > 0)
    }

    /// Channels of the last stage.
    pub fn width(&self) -> usize {
        self.stages().last().map_or(self.embedding_size, |stage| stage.channels)
    }

    /// The windows of the stem: its convolution, and its maximum.
    const STEM: [Window; 2] = [Window::square(7, 2, 3), Window::square(3, 2, 1)];

    /// Channels and stride of the input of every stage.
    fn entries(&self) -> impl Iterator<Item = (usize, u8, Stage)> {
        let inputs = [self.embedding_size].into_iter().chain(self.stages().map(|stage| stage.channels));
        let first = if self.downsample_in_first_stage { 2 } else { 1 };
        inputs.zip([first].into_iter().chain(core::iter::repeat(2))).zip(self.stages()).map(|((n, stride), s)| (n, stride, s))
    }

    /// Height and width of the last stage's result for images of these extents; `None` if one is too small.
    pub fn extents(&self, image: [usize; 2]) -> Option<[usize; 2]> {
        let stem = Self::STEM.iter().try_fold(image, |image, window| window.extents(image))?;
        self.entries().try_fold(stem, |image, (_, stride, _)| Window::square(1, stride, 0).extents(image))
    }
}

/// Stages with these numbers of blocks and channels.
pub const fn stages(sizes: &[(usize, usize)]) -> [Stage; MAX_STAGES] {
    let mut stages = [Stage { depth: 0, channels: 0 }; MAX_STAGES];
    let (mut rest, mut after): (&[(usize, usize)], &mut [Stage]) = (sizes, &mut stages);
    while let (Some((&(depth, channels), others)), Some((stage, more))) = (rest.split_first(), after.split_first_mut()) {
        *stage = Stage { depth, channels };
        (rest, after) = (others, more);
    }
    stages
}

/// A residual block: max(F(x) + shortcut(x), 0), where F is two or three convolutions.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Block {
    conv1: ConvNorm,
    conv2: ConvNorm,
    conv3: Option<ConvNorm>,
    downsample: Option<ConvNorm>,
}

repeat!(Block { conv1, conv2, conv3, downsample });

impl Block {
    /// A block of `inputs` channels to `outputs`, which reads every `stride`-th row and column.
    fn register(c: &ResNetConfig, [inputs, outputs]: [usize; 2], stride: u8, s: &mut Scope<'_>) -> Self {
        let inner = if c.bottleneck { outputs.checked_div(EXPANSION).unwrap_or(0) } else { outputs };
        let kernels = if c.bottleneck { [1, 3] } else { [3, 3] };
        let strides = if c.bottleneck && !c.downsample_in_bottleneck { [1, stride] } else { [stride, 1] };
        let (norms, window) = ((c.trained_norms, c.norm_eps), |kernel: u8, stride| Window::square(kernel, stride, kernel / 2));
        let mut conv = |channels, window, names: [&'static str; 2]| {
            ConvNorm::register(channels, window, norms, names.map(|name| (name, None)), s)
        };
        let ([first, second], [stride_1, stride_2]) = (kernels, strides);
        let conv1 = conv([inputs, inner], window(first, stride_1), ["conv1", "bn1"]);
        let conv2 = conv([inner, inner], window(second, stride_2), ["conv2", "bn2"]);
        let conv3 = c.bottleneck.then(|| conv([inner, outputs], window(1, 1), ["conv3", "bn3"]));
        let names = [("downsample", Some(0)), ("downsample", Some(1))];
        let has_shortcut = inputs != outputs || stride != 1;
        let downsample = has_shortcut.then(|| ConvNorm::register([inputs, outputs], window(1, stride), norms, names, s));
        Self { conv1, conv2, conv3, downsample }
    }

    /// x (N, H, W, inputs), result (N, H / stride, W / stride, outputs).
    #[track_caller]
    fn forward(&self, g: &Graph<'_>, x: Tensor) -> Tensor {
        let shortcut = Some(self.downsample.map_or(x, |conv| conv.forward(g, x, None, false)));
        let h = self.conv1.forward(g, x, None, true);
        match self.conv3 {
            None => self.conv2.forward(g, h, shortcut, true),
            Some(conv3) => conv3.forward(g, self.conv2.forward(g, h, None, true), shortcut, true),
        }
    }
}

/// The blocks of a stage: the first one changes channels and extents.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Blocks {
    first: Block,
    rest: Stack<Block>,
}

/// The convolutions of a residual network, from pixels to features.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Body {
    stem: ConvNorm,
    stages: [Option<Blocks>; MAX_STAGES],
}

impl Body {
    /// Registers the parameters of stem and stages.
    pub fn register(c: &ResNetConfig, s: &mut Scope<'_>) -> Self {
        let [window, _] = ResNetConfig::STEM;
        let (channels, norms) = ([c.num_channels, c.embedding_size], (c.trained_norms, c.norm_eps));
        let stem = ConvNorm::register(channels, window, norms, [("conv1", None), ("bn1", None)], &mut s.part(Part::Tokens));
        let mut stages = [None; MAX_STAGES];
        for (i, ((to, word), (inputs, stride, stage))) in stages.iter_mut().zip(STAGES).zip(c.entries()).enumerate() {
            let mut s = s.part(Part::Block(i as u16));
            let first = Block::register(c, [inputs, stage.channels], stride, &mut s.item(word, 0));
            let rest = Stack::numbered(1..stage.depth, word, &mut s, |_, s| Block::register(c, [stage.channels; 2], 1, s));
            *to = Some(Blocks { first, rest });
        }
        Self { stem, stages }
    }

    /// The result of the last stage (N, H', W', C). pixels (N, H, W, channels); the input of every stage is marked as a checkpoint.
    #[track_caller]
    pub fn forward(&self, g: &Graph<'_>, pixels: Tensor) -> Tensor {
        let [_, pool] = ResNetConfig::STEM;
        let mut x = g.max_pool(self.stem.forward(g, pixels, None, true), pool); // (N, H/4, W/4, embedding)
        for stage in self.stages.iter().flatten() {
            x = stage.first.forward(g, g.checkpoint(x));
            for block in stage.rest.iter() {
                x = block.forward(g, x);
            }
        }
        x
    }
}

/// A residual network whose parameters are registered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ResNet {
    config: ResNetConfig,
    body: Body,
    head: [ParamId; 2],
}

impl ResNet {
    /// Registers the model's parameters.
    pub fn register(c: &ResNetConfig, s: &mut Scope<'_>) -> Self {
        let body = Body::register(c, s);
        let width = c.width();
        // PyTorch's default of a linear layer.
        let init = Init::Uniform { bound: 1.0 / libm::sqrt(width.max(1) as f64) };
        let mut head = s.part(Part::Head);
        let mut head = head.at("fc");
        let weight = head.add("weight", &[c.num_labels, width], init);
        Self { config: *c, body, head: [weight, head.add("bias", &[c.num_labels], init)] }
    }
}

impl ImageModel for ResNet {
    fn dims(&self) -> ImageDims {
        let c = &self.config;
        ImageDims {
            image: c.image_size,
            channels: c.num_channels,
            order: PixelOrder::Pixels,
            width: c.width(),
            classes: c.num_labels,
            blocks: c.stages().count(),
        }
    }

    #[track_caller]
    fn backbone(&self, g: &Graph<'_>, pixels: Tensor, _: Dropout) -> Tensor {
        let x = g.checkpoint(self.body.forward(g, pixels)); // (N, H', W', C)
        let shape = g.shape(x);
        let [batch, height, width, channels] = [0, 1, 2, 3].map(|i| shape.dim(i));
        let pooled = g.token_mean(g.reshape(x, &[batch, height * width, channels])); // (N, 1, C)
        g.reshape(pooled, &[batch, channels]) // (N, C)
    }

    fn head(&self) -> [ParamId; 2] {
        self.head
    }
}
